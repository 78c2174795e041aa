size_t corral_xsave_size(uint64_t features, _Bool compacted);
void corral_xsave_put(const uint8_t *state, uint8_t *area, uint64_t requested, _Bool compacted, _Bool optimise);
_Bool corral_xsave_take(uint8_t *state, const uint8_t *area, uint64_t requested, uint64_t enabled, _Bool only_compacted);
