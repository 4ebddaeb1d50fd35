/*
 * The C client's own fastest way of publishing into JetStream: asynchronous, and every acknowledgement is waited for.
 * Arguments: server, subject, bytes a message, seconds, most messages without acknowledgement. Prints messages a second.
 */

#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SLICE 100 /* messages between two looks at the clock */
#define STALL 10000 /* milliseconds that a message may wait for acknowledgements of others */

static void must(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

/* Runs on a thread of the library's. One message that was not stored spoils the measurement. */
static void not_stored(jsCtx *context, jsPubAckErr *error, void *unused)
{
    (void)context;
    (void)unused;
    fprintf(stderr, "not stored: %s\n", error->ErrText);
    _Exit(1);
}

int main(int count, char **arguments)
{
    if (count != 6)
        return 2;
    const char *subject = arguments[2];
    int size = atoi(arguments[3]);
    double seconds = atof(arguments[4]);
    char *body = malloc(size);
    natsConnection *connection;
    jsCtx *context;
    jsOptions options;
    long sent = 0;

    for (int i = 0; i < size; i++)
        body[i] = (char)rand();
    must(jsOptions_Init(&options), "options");
    options.PublishAsync.MaxPending = atoi(arguments[5]);
    options.PublishAsync.StallWait = STALL;
    options.PublishAsync.ErrHandler = not_stored;
    must(natsConnection_ConnectTo(&connection, arguments[1]), "connect");
    must(natsConnection_JetStream(&context, connection, &options), "jetstream");

    double begin = now();
    while (now() < begin + seconds)
        for (int i = 0; i < SLICE; i++, sent++)
            must(js_PublishAsync(context, subject, body, size, NULL), "publish");
    must(js_PublishAsyncComplete(context, NULL), "acknowledgements");
    printf("%.1f\n", sent / (now() - begin));

    jsCtx_Destroy(context);
    natsConnection_Destroy(connection);
    nats_Close();
    free(body);
    return 0;
}
