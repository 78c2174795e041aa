struct corral_uart_stats {
    uint64_t sent, dropped, received, refused;
};

struct corral_uart *corral_uart_create(int vm_fd, uint32_t gsi);
void corral_uart_destroy(struct corral_uart *u);
int corral_uart_output_fd(const struct corral_uart *u);
size_t corral_uart_drain(struct corral_uart *u, uint8_t *buffer, size_t size);
size_t corral_uart_offer(struct corral_uart *u, const uint8_t *data, size_t size);
void corral_uart_hang_up(struct corral_uart *u);
void corral_uart_stats(struct corral_uart *u, struct corral_uart_stats *stats);
_Bool corral_uart_pio(void *device, _Bool write, uint16_t offset, uint8_t size, uint32_t *value);
