/* Greets a person: the payload is standard input, the result standard output. */

#include <stdio.h>
#include <string.h>

int main(void) {
    char name[256];
    if (fgets(name, sizeof name, stdin) == NULL) {
        name[0] = '\0';
    }
    name[strcspn(name, "\r\n")] = '\0';
    if (name[0] == '\0') {
        /* The task's log, and the reason of its failure. */
        fputs("the name is empty\n", stderr);
        return 1;
    }
    printf("Hello, %s!\n", name);
    return 0;
}
