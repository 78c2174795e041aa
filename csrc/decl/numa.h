int corral_memory_bind(uint64_t address, uint64_t length, unsigned node, _Bool strict);
int corral_memory_populate(uint64_t address, uint64_t length);
