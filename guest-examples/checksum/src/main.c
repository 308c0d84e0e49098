/* The checksum of standard input as POSIX `cksum` has it; with an argument, whether it is that one. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "crc.h"

int main(int argc, char **argv) {
    static unsigned char buffer[64 * 1024];
    struct crc crc = crc_begin();
    size_t count;
    while ((count = fread(buffer, 1, sizeof buffer, stdin)) > 0) {
        crc_add(&crc, buffer, count);
    }
    if (ferror(stdin)) {
        fputs("standard input cannot be read\n", stderr);
        return 1;
    }
    uint32_t found = crc_end(crc);
    if (argc > 1) {
        char *end;
        unsigned long long expected = strtoull(argv[1], &end, 10);
        if (end == argv[1] || *end != '\0' || expected > UINT32_MAX) {
            fprintf(stderr, "`%s` is no checksum: a whole number up to %" PRIu32 " is\n", argv[1], UINT32_MAX);
            return 2;
        }
        if (expected != found) {
            fprintf(stderr, "checksum is %" PRIu32 ", not %llu\n", found, expected);
            return 1;
        }
    }
    printf("%" PRIu32 " %" PRIu64 "\n", found, crc.length);
    return 0;
}
