#include "crc.h"

static const uint32_t POLYNOMIAL = 0x04C11DB7;

static uint32_t step(uint32_t remainder, unsigned char byte) {
    remainder ^= (uint32_t)byte << 24;
    for (int bit = 0; bit < 8; bit++) {
        uint32_t carry = remainder & 0x80000000U;
        remainder = (remainder << 1) ^ (carry ? POLYNOMIAL : 0);
    }
    return remainder;
}

struct crc crc_begin(void) {
    return (struct crc){0, 0};
}

void crc_add(struct crc *crc, const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        crc->remainder = step(crc->remainder, bytes[i]);
    }
    crc->length += count;
}

uint32_t crc_end(struct crc crc) {
    for (uint64_t length = crc.length; length > 0; length >>= 8) {
        crc.remainder = step(crc.remainder, (unsigned char)length);
    }
    return ~crc.remainder;
}
