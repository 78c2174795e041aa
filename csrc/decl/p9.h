#define CORRAL_P9_QUEUE_SIZE ...
#define CORRAL_P9_MESSAGE_MAX ...

struct corral_p9;
struct corral_p9 *corral_p9_create(const struct corral_ram *ram, struct corral_virtio_irq *irq);
int corral_p9_start(struct corral_p9 *p, uint64_t features, const struct corral_virtq_setup *queue, int kick_fd,
                    int server_fd, _Bool read_only, const uint64_t *cpus, unsigned n_words);
void corral_p9_stop(struct corral_p9 *p);
void corral_p9_destroy(struct corral_p9 *p);
_Bool corral_p9_failed(const struct corral_p9 *p);
uint64_t corral_p9_answered(const struct corral_p9 *p);
uint64_t corral_p9_refused(const struct corral_p9 *p);
