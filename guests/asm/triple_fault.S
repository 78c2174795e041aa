/* An exception with no interrupt table, so a second and a third. */
#include "pvh.inc"

_start:
    fault
