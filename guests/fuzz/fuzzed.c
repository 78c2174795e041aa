/* main() of a program that `corral fuzz` runs: linked with any `int parse(const uint8_t *, uint32_t)`. */
#define CORRAL_FUZZ_PROGRAM
#define CORRAL_FUZZ_COVERAGE
#include "corral_fuzz.h"

int parse(const uint8_t *data, uint32_t length);

int main(void)
{
    corral_fuzz_begin_program();
    for (;;) {
        uint32_t length = corral_fuzz_next();
        parse(corral_fuzz.input, length);
    }
}
