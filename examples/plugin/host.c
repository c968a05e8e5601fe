/* Runs an exported model over a sound in blocks, as an audio program calls a plugin, and reports its speed.
 *
 *     host INPUT.wav OUTPUT.wav [BLOCK]
 *
 * INPUT has one channel, of 16-bit integers or 32-bit floating-point numbers. OUTPUT has floating-point numbers. BLOCK is
 * the number of samples of a call, 64 by default.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "amplifier.h"

typedef struct {
    uint32_t rate;
    int count;
    float *samples;
} sound;

static void stop(const char *path, const char *problem)
{
    fprintf(stderr, "host: %s: %s\n", path, problem);
    exit(1);
}

static uint32_t number(const unsigned char *bytes, int size)
{
    uint32_t value = 0;
    while (size--)
        value = value << 8 | bytes[size];
    return value;
}

static void write_number(FILE *file, uint32_t value, int size)
{
    for (; size--; value >>= 8)
        putc((int)(value & 255), file);
}

static sound read_wav(const char *path)
{
    unsigned char head[12], about[16] = {0};
    sound result = {0, 0, NULL};
    FILE *file = fopen(path, "rb");
    if (!file)
        stop(path, "cannot be read");
    if (fread(head, 1, 12, file) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4))
        stop(path, "expected a WAV file");
    while (fread(head, 1, 8, file) == 8) {
        const uint32_t size = number(head + 4, 4);
        if (!memcmp(head, "fmt ", 4) && size >= 16) {
            if (fread(about, 1, 16, file) != 16)
                stop(path, "ends too early");
            fseek(file, (long)(size - 16 + size % 2), SEEK_CUR);
        } else if (!memcmp(head, "data", 4)) {
            const int format = (int)number(about, 2), width = (int)number(about + 14, 2) / 8;
            unsigned char *data = malloc(size ? size : 1);
            int n;
            if (number(about + 2, 2) != 1 || !((format == 1 && width == 2) || (format == 3 && width == 4)))
                stop(path, "expected one channel of 16-bit integers or 32-bit floating-point numbers");
            if (!data || fread(data, 1, size, file) != size)
                stop(path, "ends too early");
            result.rate = number(about + 4, 4);
            result.count = (int)(size / (uint32_t)width);
            result.samples = malloc(sizeof(float) * (size_t)(result.count + 1));
            if (!result.samples)
                stop(path, "is too long");
            if (result.count == 0)
                stop(path, "expected samples");
            for (n = 0; n < result.count; ++n) {
                const uint32_t bits = number(data + n * width, width);
                if (format == 1)
                    result.samples[n] = (float)(int16_t)bits / 32768.0f;
                else
                    memcpy(&result.samples[n], &bits, 4);
            }
            free(data);
            fclose(file);
            return result;
        } else {
            fseek(file, (long)(size + size % 2), SEEK_CUR);
        }
    }
    stop(path, "expected samples");
    return result;
}

static void write_wav(const char *path, sound written)
{
    const uint32_t size = 4 * (uint32_t)written.count;
    FILE *file = fopen(path, "wb");
    int n;
    if (!file)
        stop(path, "cannot be written");
    fputs("RIFF", file);
    write_number(file, 36 + size, 4);
    fputs("WAVEfmt ", file);
    write_number(file, 16, 4);
    write_number(file, 3, 2); /* floating-point numbers */
    write_number(file, 1, 2); /* of one channel */
    write_number(file, written.rate, 4);
    write_number(file, 4 * written.rate, 4);
    write_number(file, 4, 2);
    write_number(file, 32, 2);
    fputs("data", file);
    write_number(file, size, 4);
    for (n = 0; n < written.count; ++n) {
        uint32_t bits;
        memcpy(&bits, &written.samples[n], 4);
        write_number(file, bits, 4);
    }
    if (fclose(file))
        stop(path, "cannot be written");
}

static double seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments)
{
    static amplifier_state state; /* all memory of the model */
    const int block = count > 3 ? atoi(arguments[3]) : 64;
    double total = 0, *times;
    sound input, output;
    int n, blocks = 0;
    if (count < 3 || count > 4 || block < 1)
        stop("usage", "host INPUT.wav OUTPUT.wav [BLOCK]");
    input = output = read_wav(arguments[1]);
    output.samples = malloc(sizeof(float) * (size_t)(output.count + 1));
    times = malloc(sizeof(double) * (size_t)(input.count / block + 1));
    if (!output.samples || !times)
        stop(arguments[1], "is too long");

    amplifier_reset(&state);
    for (n = 0; n < input.count; n += block) {
        const int size = input.count - n < block ? input.count - n : block;
        const double start = seconds();
        amplifier_run(&state, input.samples + n, size, output.samples + n);
        times[blocks] = seconds() - start;
        total += times[blocks++];
    }

    write_wav(arguments[2], output);
    printf("%.1f s of sound in %.3f s: %.0f times as fast as real time\n", (double)input.count / input.rate, total,
           (double)input.count / input.rate / total);
    qsort(times, (size_t)blocks, sizeof(double), compare);
    printf("a block of %.3f ms takes %.3f ms (median), %.3f ms at most\n", 1e3 * block / input.rate,
           1e3 * times[blocks / 2], 1e3 * times[blocks - 1]);
    free(times);
    free(input.samples);
    free(output.samples);
    return 0;
}
