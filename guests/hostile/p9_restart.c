/* Starts and resets a shared folder's device, as fast as it goes, `times=N` times or for ever. */
#include "device.h"

static struct device share;

_Noreturn void drive(const struct start_info *info)
{
    command_line = (const char *)info->command_line;
    uint64_t times = option("times=", UINT64_MAX);
    for (uint64_t i = 0; i < times; i++) {
        device_open(&share, 9, 0, 0);
        if (!i)
            print("started\n");
    }
    print("done\n");
    end();
}
