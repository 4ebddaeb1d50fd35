/*
 * What a stock NATS client in C can do with only a user's seed, and knowing nothing else of unibus: connect, read a room's
 * first frame as it is, store that and another one, and be refused. Lines come in on standard input: server, seed, user,
 * room, a frame in hex, and subjects that are not this user's. One JSON object goes out.
 */

#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define LINE 4096
#define ID 32
#define WITHIN 10000 /* milliseconds */
#define MOST_REFUSED 8

static char seed[LINE];
static char refused[MOST_REFUSED][LINE];
static int refusals;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;

static void must(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
    nats_PrintLastErrorStack(stderr);
    exit(1);
}

static int next_line(char *line)
{
    if (fgets(line, LINE, stdin) == NULL)
        return 0;
    line[strcspn(line, "\n")] = '\0';
    return line[0] != '\0';
}

static void unique(char *id)
{
    unsigned char random[ID / 2];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        exit(1);
    for (int i = 0; i < ID / 2; i++)
        sprintf(id + 2 * i, "%02x", random[i]);
}

static natsStatus prove(char **reason, unsigned char **signature, int *length, const char *nonce, void *unused)
{
    (void)reason;
    (void)unused;
    return nats_Sign(seed, nonce, signature, length);
}

/* The server names the subject in quotes: Permissions Violation for Publish to "…". */
static void complain(natsConnection *connection, natsSubscription *subscription, natsStatus error, void *unused)
{
    const char *text = NULL;
    (void)subscription;
    (void)error;
    (void)unused;
    natsConnection_GetLastError(connection, &text);
    const char *subject = text == NULL ? NULL : strchr(text, '"');
    if (subject == NULL)
        return;
    pthread_mutex_lock(&lock);
    if (refusals < MOST_REFUSED)
        snprintf(refused[refusals++], LINE, "%.*s", (int)strcspn(subject + 1, "\""), subject + 1);
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
}

/* Publishes a frame under an id of its own and prints what JetStream acknowledges. */
static void store(natsConnection *connection, const char *subject, const char *data, int length)
{
    char id[ID + 1];
    natsMsg *message, *answer;
    unique(id);
    must(natsMsg_Create(&message, subject, NULL, data, length), "message");
    must(natsMsgHeader_Set(message, "Nats-Msg-Id", id), "header");
    must(natsConnection_RequestMsg(&answer, connection, message, WITHIN), "publish");
    printf("%.*s", natsMsg_GetDataLength(answer), natsMsg_GetData(answer));
    natsMsg_Destroy(message);
    natsMsg_Destroy(answer);
}

int main(void)
{
    static char server[LINE], user[LINE], room[LINE], hex[LINE], line[LINE];
    char token[ID + 1], text[LINE], frame[LINE];
    natsOptions *options;
    natsConnection *connection;
    natsSubscription *delivered;
    natsMsg *opened, *first;

    if (!next_line(server) || !next_line(seed) || !next_line(user) || !next_line(room) || !next_line(hex))
        return 2;
    must(natsOptions_Create(&options), "options");
    must(natsOptions_SetURL(options, server), "server");
    must(natsOptions_SetNKey(options, user, prove, NULL), "nkey");
    snprintf(text, sizeof text, "_INBOX_%.100s", user);
    must(natsOptions_SetCustomInboxPrefix(options, text), "inbox");
    must(natsOptions_SetErrorHandler(options, complain, NULL), "errors");
    must(natsConnection_Connect(&connection, options), "connect");

    unique(token);
    snprintf(text, sizeof text, "dlv.%.100s.%s", user, token);
    must(natsConnection_SubscribeSync(&delivered, connection, text), "subscribe");
    snprintf(line, sizeof line, "{\"after\":0,\"room\":\"%.100s\",\"token\":\"%s\"}", room, token);
    snprintf(text, sizeof text, "ctl.%.100s.deliver", user);
    must(natsConnection_RequestString(&opened, connection, text, line, WITHIN), "deliver");
    must(natsSubscription_NextMsg(&first, delivered, WITHIN), "read");

    printf("{\"opened\":%.*s,\"first\":\"", natsMsg_GetDataLength(opened), natsMsg_GetData(opened));
    for (int i = 0; i < natsMsg_GetDataLength(first); i++)
        printf("%02x", (unsigned char)natsMsg_GetData(first)[i]);
    int length = (int)strlen(hex) / 2;
    for (int i = 0; i < length; i++)
        sscanf(hex + 2 * i, "%2hhx", (unsigned char *)frame + i);
    snprintf(text, sizeof text, "room.%.100s.msg.%.100s", room, user);
    printf("\",\"stored\":[");
    store(connection, text, frame, length);
    printf(",");
    store(connection, text, natsMsg_GetData(first), natsMsg_GetDataLength(first));

    /* One at a time: the connection keeps only the last thing that it was told. */
    printf("],\"refused\":[");
    for (int tried = 0; next_line(line); tried++)
    {
        must(natsConnection_PublishString(connection, line, "not mine"), "publish");
        must(natsConnection_Flush(connection), "flush");
        pthread_mutex_lock(&lock);
        while (refusals <= tried)
            pthread_cond_wait(&more, &lock);
        printf("%s\"%s\"", tried ? "," : "", refused[tried]);
        pthread_mutex_unlock(&lock);
    }
    printf("]}\n");

    natsMsg_Destroy(opened);
    natsMsg_Destroy(first);
    natsSubscription_Destroy(delivered);
    natsConnection_Destroy(connection);
    natsOptions_Destroy(options);
    nats_Close();
    return 0;
}
