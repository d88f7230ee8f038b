/* A camera of this machine without one: /dev/videoN of a process that loads this is a socket in $CAMERAS.

   What a kernel does for V4L2 in streaming mode is done here as far as OpenCV asks for it. Each datagram is a frame:
   its time stamp (microseconds of the monotonic clock, 8 bytes), then WIDTH x HEIGHT pixels BGR. When the other end of
   the socket is closed, the camera was unplugged. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { WIDTH = 64, HEIGHT = 48, SIZE = WIDTH * HEIGHT * 3, BUFFERS = 8, DEVICES = 1024 };

struct device {
    int open, queue[BUFFERS], queued, dequeued;
    uint8_t *buffers[BUFFERS];
    int mapped;
};
static struct device devices[DEVICES];

static struct device *device_of(int fd) {
    return fd >= 0 && fd < DEVICES && devices[fd].open ? &devices[fd] : NULL;
}

static int plugged(const char *path, int flags) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *cameras = getenv("CAMERAS");
    if (cameras == NULL || strncmp(path, "/dev/video", 10) != 0)
        return -2;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", cameras, path + 5);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0), 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 || fd >= DEVICES) {
        close(fd);
        errno = ENOENT;
        return -1;
    }
    memset(&devices[fd], 0, sizeof devices[fd]);
    devices[fd].open = 1;
    return fd;
}

#define OPEN(name)                                                  \
    int name(const char *path, int flags, ...) {                    \
        static int (*next)(const char *, int, ...);                 \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = va_arg(rest, mode_t);                         \
        va_end(rest);                                               \
        int fd = plugged(path, flags);                              \
        if (fd != -2)                                               \
            return fd;                                              \
        if (next == NULL)                                           \
            next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
        return next(path, flags, mode);                             \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    static int (*next)(int);
    struct device *device = device_of(fd);
    if (device != NULL)
        device->open = 0;
    if (next == NULL)
        next = (int (*)(int))dlsym(RTLD_NEXT, "close");
    return next(fd);
}

#define MMAP(name, offset_type)                                                                   \
    void *name(void *at, size_t size, int protection, int flags, int fd, offset_type offset) {    \
        static void *(*next)(void *, size_t, int, int, int, offset_type);                         \
        struct device *device = device_of(fd);                                                    \
        if (next == NULL)                                                                         \
            next = (void *(*)(void *, size_t, int, int, int, offset_type))dlsym(RTLD_NEXT, #name); \
        if (device == NULL)                                                                       \
            return next(at, size, protection, flags, fd, offset);                                 \
        void *memory = next(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); \
        device->buffers[offset / 4096 / 16] = memory;                                             \
        return memory;                                                                            \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

static int fail(int error) {
    errno = error;
    return -1;
}

static void set_format(struct v4l2_format *format) {
    format->fmt.pix.width = WIDTH;
    format->fmt.pix.height = HEIGHT;
    format->fmt.pix.pixelformat = V4L2_PIX_FMT_BGR24;
    format->fmt.pix.field = V4L2_FIELD_NONE;
    format->fmt.pix.bytesperline = WIDTH * 3;
    format->fmt.pix.sizeimage = SIZE;
}

static int take_frame(int fd, struct device *device, struct v4l2_buffer *buffer) {
    uint8_t packet[8 + SIZE];
    uint64_t stamp_us;
    if (device->queued == device->dequeued)
        return fail(EAGAIN);
    ssize_t got = recv(fd, packet, sizeof packet, 0);
    if (got < 0)
        return fail(errno == ECONNRESET ? ENODEV : errno);
    if (got == 0)
        return fail(ENODEV);
    memcpy(&stamp_us, packet, sizeof stamp_us);
    buffer->index = device->queue[device->dequeued++ % BUFFERS];
    memcpy(device->buffers[buffer->index], packet + 8, SIZE);
    buffer->bytesused = buffer->length = SIZE;
    buffer->timestamp.tv_sec = stamp_us / 1000000;
    buffer->timestamp.tv_usec = stamp_us % 1000000;
    return 0;
}

int ioctl(int fd, unsigned long request, ...) {
    static int (*next)(int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    struct device *device = device_of(fd);
    if (device == NULL) {
        if (next == NULL)
            next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
        return next(fd, request, argument);
    }
    struct v4l2_capability *capability = argument;
    struct v4l2_requestbuffers *wanted = argument;
    struct v4l2_buffer *buffer = argument;
    struct v4l2_streamparm *rate = argument;
    switch (request & 0xffffffff) {
    case VIDIOC_QUERYCAP:
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "socket");
        capability->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_G_INPUT:
    case VIDIOC_S_INPUT:
    case VIDIOC_ENUMINPUT:
    case VIDIOC_STREAMON:
        return 0;
    case VIDIOC_STREAMOFF:
        device->queued = device->dequeued = 0;
        return 0;
    case VIDIOC_G_FMT:
    case VIDIOC_TRY_FMT:
        set_format(argument);
        return 0;
    case VIDIOC_S_FMT:
        if (((struct v4l2_format *)argument)->fmt.pix.pixelformat != V4L2_PIX_FMT_BGR24)
            return fail(EINVAL);
        set_format(argument);
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM:
        rate->parm.capture.timeperframe.numerator = 1;
        rate->parm.capture.timeperframe.denominator = 30;
        return 0;
    case VIDIOC_REQBUFS:
        wanted->count = wanted->count > BUFFERS ? BUFFERS : wanted->count;
        return 0;
    case VIDIOC_QUERYBUF:
        buffer->length = SIZE;
        buffer->m.offset = buffer->index * 4096 * 16;
        return 0;
    case VIDIOC_QBUF:
        device->queue[device->queued++ % BUFFERS] = buffer->index;
        return 0;
    case VIDIOC_DQBUF:
        return take_frame(fd, device, buffer);
    default:
        return fail(EINVAL);
    }
}
