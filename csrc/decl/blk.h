#define CORRAL_BLK_URING ...
#define CORRAL_BLK_THREADS ...
#define CORRAL_BLK_NULL ...
#define CORRAL_BLK_SEG_MAX ...
#define CORRAL_BLK_QUEUES_MAX ...
#define CORRAL_BLK_RANGES_MAX ...
#define CORRAL_BLK_RANGE_SECTORS_MAX ...
#define CORRAL_BLK_LATENCY_BUCKETS 40
#define CORRAL_BLK_RECORD_ANSWER ...

struct corral_blk_config {
    int fd;
    int overlay_fd;
    uint64_t size;
    uint32_t block_size;
    _Bool read_only;
    _Bool write_through;
    _Bool direct;
    char id[20];
    char name[16];
    uint16_t n_queues;
    unsigned engine;
    unsigned n_threads;
    uint64_t ops_per_second, bytes_per_second;
    int broken_fd;
    uint64_t cpus[...];
    unsigned fault_every;
    int fault_errno;
    uint64_t fault_seed;
    int record_fd;
    _Bool false_flush;
};

struct corral_blk_stats {
    uint64_t reads, writes, flushes, discards, write_zeroes, get_ids, others;
    uint64_t read_bytes, written_bytes;
    uint64_t errors;
    uint64_t refused;
    uint64_t merged;
    uint64_t interrupts, interrupts_saved;
    uint64_t rounds;
    uint64_t latency[40];
};

struct corral_blk;
struct corral_blk *corral_blk_create(const struct corral_blk_config *config, const struct corral_ram *ram,
                                     struct corral_virtio_irq *irq);
int corral_blk_start(struct corral_blk *b, uint64_t features, const struct corral_virtq_setup *queues,
                     const int *kick_fds);
int corral_blk_stop(struct corral_blk *b);
void corral_blk_destroy(struct corral_blk *b);
_Bool corral_blk_failed(const struct corral_blk *b);
int corral_blk_set_writeback(struct corral_blk *b, _Bool on);
int corral_blk_stats(const struct corral_blk *b, unsigned index, struct corral_blk_stats *stats);
_Bool corral_blk_has_uring(void);
int corral_blk_uring_probe(void);
