/* main() of the same program for AFL++'s fork server on the host, with inputs in shared memory: what
 * benchmarks/fuzzing.py compares with. */
#include <stdint.h>
#include <unistd.h>

int parse(const uint8_t *data, uint32_t length);

__AFL_FUZZ_INIT();

int main(void)
{
    __AFL_INIT();
    const uint8_t *data = __AFL_FUZZ_TESTCASE_BUF;
    parse(data, (uint32_t)__AFL_FUZZ_TESTCASE_LEN);
    return 0;
}
