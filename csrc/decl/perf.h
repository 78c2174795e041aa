int corral_perf_open(uint32_t type, uint64_t config, int tid, _Bool guest_only);
