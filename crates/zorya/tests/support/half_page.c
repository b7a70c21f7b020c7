/*
 * Loaded into PostgreSQL before the C library: one page write that the kernel splits, and whose writer is killed
 * between the two parts.
 *
 * The file that ZORYA_HALF_PAGE names says which file of the data directory, by the end of its path. The next page that
 * a process writes there gets as far as its first 3840 bytes (the usual first part: shared buffers lie 256 bytes off the
 * page boundary), then the process is gone. It happens once: the file is removed first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_chosen(int fd)
{
    const char *choice = getenv("ZORYA_HALF_PAGE");
    FILE *file = choice ? fopen(choice, "r") : NULL;
    if (!file)
        return 0;
    char suffix[256] = "", link[64], path[4096];
    int named = fscanf(file, "%255s", suffix) == 1;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!named || length < (ssize_t) strlen(suffix))
        return 0;
    path[length] = 0;
    return strcmp(path + length - strlen(suffix), suffix) == 0 && unlink(choice) == 0;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at)
{
    ssize_t (*next)(int, const void *, size_t, off_t);
    *(void **) &next = dlsym(RTLD_NEXT, "pwrite");
    if (length == 8192 && is_chosen(fd)) {
        next(fd, bytes, 3840, at);
        kill(getpid(), SIGKILL);
    }
    return next(fd, bytes, length, at);
}
