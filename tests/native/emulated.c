/* Runs a compiled kernel on memory from standard input, and writes that memory to standard output.

   Linked with kernels of another machine, and run by an emulator of it: `emulated.py`. -DFUNCTIONS lists the functions
   that may be called, as F(name) each; -DALONE and -DTEAM are the names of the entries of the kernel library. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define F(name) void name(int64_t *);
FUNCTIONS
#undef F

static const struct {
    const char *name;
    void (*function)(int64_t *);
} functions[] = {
#define F(name) {#name, name},
    FUNCTIONS
#undef F
};

void ALONE(int64_t *words);
void TEAM(int64_t *words);

enum { MAX_BLOCKS = 256, LINE = 64 };
static int64_t address[MAX_BLOCKS], size[MAX_BLOCKS];
static char *memory[MAX_BLOCKS];

static int thread_count;
static _Thread_local int number;
static int thread_num(void) { return number; }
static int num_threads(void) { return thread_count; }

static int64_t *words;

static void *member(void *argument) {
    number = (int)(intptr_t)argument;
    TEAM(words);
    return NULL;
}

static void fail(const char *message) {
    fprintf(stderr, "%s\n", message);
    exit(1);
}

static void receive(void *target, int64_t bytes) {
    if (bytes && fread(target, 1, bytes, stdin) != (size_t)bytes) fail("standard input has ended early");
}

/* What a word means here: an address in a block of memory, a function (the lowest numbers there are), or a number. */
static int64_t translated(int64_t word, int64_t blocks) {
    const int64_t symbols[] = {(intptr_t)thread_num, (intptr_t)num_threads, (intptr_t)syscall};
    if (word < INT64_MIN + 3) return symbols[word - INT64_MIN];
    for (int64_t i = 0; i < blocks; i++)
        if (word >= address[i] && word < address[i] + size[i]) return (intptr_t)memory[i] + (word - address[i]);
    return word;
}

int main(int count, char **arguments) {
    int64_t head[2]; /* how many words and blocks */
    if (count != 3) fail("expected the name of a function and the number of threads");
    thread_count = atoi(arguments[2]);
    receive(head, sizeof head);
    if (head[1] > MAX_BLOCKS) fail("too many blocks of memory");
    words = calloc(head[0], sizeof *words);
    receive(words, head[0] * sizeof *words);
    for (int64_t i = 0; i < head[1]; i++) {
        receive(&address[i], sizeof *address);
        receive(&size[i], sizeof *size);
    }
    for (int64_t i = 0; i < head[1]; i++) {
        int64_t offset = address[i] % LINE; /* the block lies in its cache lines as it did */
        memory[i] = (char *)aligned_alloc(LINE, (offset + size[i] + LINE) / LINE * LINE) + offset;
        receive(memory[i], size[i]);
    }
    for (int64_t i = 0; i < head[0]; i++) words[i] = translated(words[i], head[1]);
    words[0] = 0;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, arguments[1])) words[0] = (intptr_t)functions[i].function;
    if (!words[0]) fail("no such function");
    if (thread_count == 1) {
        ALONE(words);
    } else {
        pthread_t threads[16];
        if (thread_count > 16) fail("too many threads");
        for (int i = 0; i < thread_count; i++) pthread_create(&threads[i], NULL, member, (void *)(intptr_t)i);
        for (int i = 0; i < thread_count; i++) pthread_join(threads[i], NULL);
    }
    for (int64_t i = 0; i < head[1]; i++) fwrite(memory[i], 1, size[i], stdout);
    return 0;
}
