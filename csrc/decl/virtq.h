struct corral_virtq {
    uint16_t size;
    _Bool broken;
    ...;
};

struct corral_virtq_setup {
    uint16_t size;
    _Bool ready;
    uint64_t desc, avail, used;
};

struct corral_chain {
    uint16_t head;
    uint16_t n_read, n_write;
    uint64_t read_size, write_size;
    ...;
};

int corral_virtq_init(struct corral_virtq *q, const struct corral_ram *ram, uint16_t size, uint64_t desc,
                      uint64_t avail, uint64_t used, _Bool event_idx, _Bool indirect);
int corral_virtq_pop(struct corral_virtq *q, struct corral_chain *chain);
void corral_virtq_push(struct corral_virtq *q, uint16_t head, uint32_t written);
void corral_virtq_publish(struct corral_virtq *q);
_Bool corral_virtq_wants_interrupt(const struct corral_virtq *q);
_Bool corral_virtq_tell(struct corral_virtq *q);
_Bool corral_virtq_listen(struct corral_virtq *q);
void corral_virtq_ignore(struct corral_virtq *q);
