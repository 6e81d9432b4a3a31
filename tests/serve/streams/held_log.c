/* A disk that forgets, for a server of Redis that loads this first (LD_PRELOAD): what it writes to its log is held in
   its memory until it asks the disk for it, so that kill -9 loses what a machine's loss of power may lose. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* it asks its disk on a thread of its own */
static char *held;
static size_t held_bytes;

static int is_log(int fd) {
    char link[64], path[PATH_MAX + 1];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX);
    path[length < 0 ? 0 : length] = 0;
    return strstr(path, ".incr.aof") != NULL;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    ssize_t (*write_really)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (!is_log(fd)) return write_really(fd, data, bytes);
    pthread_mutex_lock(&lock);
    held = realloc(held, held_bytes + bytes);
    memcpy(held + held_bytes, data, bytes);
    held_bytes += bytes;
    pthread_mutex_unlock(&lock);
    return bytes;
}

int fdatasync(int fd) {
    ssize_t (*write_really)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    int (*sync_really)(int) = dlsym(RTLD_NEXT, "fdatasync");
    pthread_mutex_lock(&lock);
    if (is_log(fd) && held_bytes && write_really(fd, held, held_bytes) != (ssize_t)held_bytes) abort();
    if (is_log(fd)) held_bytes = 0;
    pthread_mutex_unlock(&lock);
    return sync_really(fd);
}
