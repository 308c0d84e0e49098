/* The CRC of POSIX `cksum`: polynomial 0x04C11DB7, highest bit first, with the length of the data behind the data. */

#ifndef CRC_H
#define CRC_H

#include <stddef.h>
#include <stdint.h>

struct crc {
    uint32_t remainder;
    uint64_t length;
};

struct crc crc_begin(void);
void crc_add(struct crc *crc, const unsigned char *bytes, size_t count);
uint32_t crc_end(struct crc crc);

#endif
