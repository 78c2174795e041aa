#include "bare.h"

#define COM1 0x3f8
#define LINE_STATUS (COM1 + 5)
#define DATA_READY 1
#define ROOM_TO_SEND 0x20
#define I8042 0x64
#define I8042_RESET 0xfe

const char *command_line = "";

const char *word(const char *text, const char *prefix)
{
    for (bool begins = text == command_line; *text; begins = *text++ == ' ') {
        size_t n = 0;
        while (prefix[n] && text[n] == prefix[n])
            n++;
        if (begins && !prefix[n])
            return text + n;
    }
    return NULL;
}

static unsigned digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

uint64_t number(const char *text)
{
    bool hexadecimal = text[0] == '0' && text[1] == 'x';
    unsigned base = hexadecimal ? 16 : 10;
    uint64_t value = 0;
    for (text += hexadecimal ? 2 : 0; digit(*text) < base; text++)
        value = value * base + digit(*text);
    return value;
}

uint64_t option(const char *prefix, uint64_t otherwise)
{
    const char *text = word(command_line, prefix);
    return text ? number(text) : otherwise;
}

static void put(char c)
{
    while (!(in(LINE_STATUS) & ROOM_TO_SEND))
        ;
    out(COM1, c);
}

void print(const char *text)
{
    while (*text)
        put(*text++);
}

void print_number(uint64_t value)
{
    if (value >= 10)
        print_number(value / 10);
    put('0' + value % 10);
}

void await_byte(void)
{
    while (!(in(LINE_STATUS) & DATA_READY))
        ;
    in(COM1);
}

void fail(const char *why)
{
    print("wrong: ");
    print(why);
    print("\n");
    end();
}

void end(void)
{
    out(I8042, I8042_RESET);
    for (;;)
        __asm__ volatile("ud2"); /* no keyboard controller: #UD and no IDT, so a triple fault */
}
