/* Resets with its first instructions: what is left is the cost of the VMM. */
#include "pvh.inc"

_start:
    reset
