struct corral_virtio_irq {
    int fd;
    uint32_t status;
    uint64_t sent;
};

void corral_virtio_interrupt(struct corral_virtio_irq *irq, uint32_t bits);
_Bool corral_virtio_irq_access(void *irq, _Bool write, uint16_t offset, uint8_t size, uint32_t *value);
