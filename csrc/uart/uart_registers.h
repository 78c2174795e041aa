/* The registers of a 16550A, and their bits (the PC16550D data sheet). */
#ifndef CORRAL_UART_REGISTERS_H
#define CORRAL_UART_REGISTERS_H

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };
enum { IER_DATA = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { IIR_MODEM = 0, IIR_NONE = 1, IIR_THRE = 2, IIR_DATA = 4, IIR_LINE = 6, IIR_TIMEOUT = 12, IIR_FIFOS = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16, MCR_BITS = 31 };
enum { LSR_DATA = 1, LSR_OVERRUN = 2, LSR_THRE = 0x20, LSR_IDLE = 0x40 };
enum { MSR_DELTA_CTS = 1, MSR_DELTA_DSR = 2, MSR_RI_TRAIL = 4, MSR_DELTA_DCD = 8 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

#endif
