/* What runs in the containers of the log benchmarks; static, so that any root file system will do.
 *
 *   payload lines COUNT [NS] COUNT lines of 100 bytes, numbered, by writes of 64 KiB, not before
 *                            CLOCK_MONOTONIC is NS (so that many writers begin together)
 *   payload slow-lines COUNT the same by one write for each line, as an unbuffered program does
 *   payload ticks COUNT US   every US microseconds one line of 100 bytes that begins with the time
 *                            (CLOCK_MONOTONIC in ns) at which it was written; COUNT of them
 *
 * Exit code 0 when all was written, 1 when a write failed, 2 for arguments it doesn't know.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 100, BATCH = 65536 };

static void put(const char *data, size_t size) {
    while (size) {
        ssize_t n = write(1, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) _exit(1);
        data += n;
        size -= (size_t)n;
    }
}

static void number_line(char *line, long long number) {
    static const char rest[] = " the quick brown fox jumps over the lazy dog and goes on to fill "
                               "a line of a hundred bytes....";
    for (int digit = 11; digit >= 0; digit--, number /= 10) line[digit] = (char)('0' + number % 10);
    memcpy(line + 12, rest, LINE - 13);
    line[LINE - 1] = '\n';
}

static void lines(long long count, int each) {
    static char batch[BATCH + LINE];
    size_t filled = 0;
    for (long long i = 0; i < count; i++) {
        number_line(batch + filled, i);
        filled += LINE;
        if (each) {
            put(batch, filled);
            filled = 0;
        } else if (filled >= BATCH) {
            put(batch, BATCH);
            memmove(batch, batch + BATCH, filled - BATCH);
            filled -= BATCH;
        }
    }
    put(batch, filled);
}

static void ticks(long long count, long long interval_us) {
    char line[LINE + 1];
    struct timespec next, now;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (long long i = 0; i < count; i++) {
        next.tv_nsec += interval_us % 1000000 * 1000;
        next.tv_sec += interval_us / 1000000 + next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        memset(line, '.', LINE);
        int stamp = snprintf(line, sizeof line, "%lld", now.tv_sec * 1000000000LL + now.tv_nsec);
        line[stamp] = ' ';
        line[LINE - 1] = '\n';
        put(line, LINE);
    }
}

static void await_moment(long long ns) {
    struct timespec moment = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "lines")) {
        await_moment(atoll(argv[3]));
        argc = 3;
    }
    if (argc == 3 && !strcmp(argv[1], "lines")) lines(atoll(argv[2]), 0);
    else if (argc == 3 && !strcmp(argv[1], "slow-lines")) lines(atoll(argv[2]), 1);
    else if (argc == 4 && !strcmp(argv[1], "ticks")) ticks(atoll(argv[2]), atoll(argv[3]));
    else return 2;
    return 0;
}
