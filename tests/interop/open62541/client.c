/* open62541 as SCADA: reads, browses in pages, subscribes, writes, calls.
 *
 *   open62541_client URL POLICY MODE [OPTION VALUE]...
 *
 *   --certificate FILE --key FILE   this client's, DER; needed for every policy but None
 *   --trust FILE                    the hub's certificate, the only one that is trusted
 *   --user NAME --password WORD     who logs in; without them nobody, or with
 *   --identity CERTIFICATE,KEY      a certificate
 *   --channel-ms N                  lifetime of the secure channel; it is subscribed for four of them
 *   --refused STATUS                the log-in must be refused with this status
 *
 * Nothing is taken from a hub that open62541 would not take: only --trust's certificate is trusted, and the
 * password never goes in the clear. Prints one line of JSON, and ends with 0 when everything was as it should be.
 */

#include <open62541/client.h>
#include <open62541/client_config_default.h>
#include <open62541/client_highlevel.h>
#include <open62541/client_subscriptions.h>
#include <open62541/plugin/log_stdout.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 7, MANY = 40, CHANGES = 10, NAME = 80 };

static const char *const NAMESPACE = "urn:weighbridge:hub";
static const char *const APPLICATION = "urn:weighbridge:interop:client";

static struct {
    const char *url, *policy, *mode;
    const char *certificate, *key, *trust, *user, *password, *identity, *channel_ms, *refused;
} wanted;
static UA_Client *client;
static UA_UInt16 hub_namespace;

static void fail(const char *what, ...)
{
    va_list rest;
    va_start(rest, what);
    printf("{\"error\": \"");
    vprintf(what, rest);
    printf("\"}\n");
    va_end(rest);
    exit(1);
}

static void good(UA_StatusCode status, const char *what)
{
    if (status != UA_STATUSCODE_GOOD)
        fail("%s: %s", what, UA_StatusCode_name(status));
}

static void expect(UA_StatusCode status, UA_StatusCode expected, const char *what)
{
    if (status != expected)
        fail("%s gave %s, not %s", what, UA_StatusCode_name(status), UA_StatusCode_name(expected));
}

static UA_ByteString load(const char *path)
{
    UA_ByteString bytes = UA_BYTESTRING_NULL;
    long size;
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) <= 0)
        fail("cannot read %s", path ? path : "a file that was not named");
    rewind(file);
    good(UA_ByteString_allocBuffer(&bytes, (size_t)size), path);
    if (fread(bytes.data, 1, bytes.length, file) != bytes.length)
        fail("cannot read %s", path);
    fclose(file);
    return bytes;
}

static UA_NodeId node(const char *path)
{
    return UA_NODEID_STRING(hub_namespace, (char *)path);
}

static UA_NodeId tag(const char *name)
{
    static char path[NAME];
    snprintf(path, sizeof path, "Weighbridge/Devices/plc-1/%s", name);
    return node(path);
}

static double number(const UA_Variant *value)
{
    if (UA_Variant_hasScalarType(value, &UA_TYPES[UA_TYPES_DOUBLE]))
        return *(UA_Double *)value->data;
    if (UA_Variant_hasScalarType(value, &UA_TYPES[UA_TYPES_UINT64]))
        return (double)*(UA_UInt64 *)value->data;
    if (UA_Variant_hasScalarType(value, &UA_TYPES[UA_TYPES_INT64]))
        return (double)*(UA_Int64 *)value->data;
    fail("a value of type %s", value->type ? value->type->typeName : "null");
    return 0.0;
}

/* -- the connection */

static void secure(UA_ClientConfig *config)
{
    char uri[NAME];
    UA_ByteString certificate = load(wanted.certificate), key = load(wanted.key), trust = load(wanted.trust);
    good(UA_ClientConfig_setDefaultEncryption(config, certificate, key, &trust, 1, NULL, 0), "the certificates");
    UA_ByteString_clear(&certificate);
    UA_ByteString_clear(&key);
    UA_ByteString_clear(&trust);
    snprintf(uri, sizeof uri, "http://opcfoundation.org/UA/SecurityPolicy#%s", wanted.policy);
    config->securityPolicyUri = UA_STRING_ALLOC(uri);
}

static void identify(UA_ClientConfig *config)
{
    char paths[2][512];
    UA_ByteString certificate, key;
    if (sscanf(wanted.identity, "%511[^,],%511s", paths[0], paths[1]) != 2)
        fail("--identity takes two files");
    certificate = load(paths[0]);
    key = load(paths[1]);
    good(UA_ClientConfig_setAuthenticationCert(config, certificate, key), "the user's certificate");
    UA_ByteString_clear(&certificate);
    UA_ByteString_clear(&key);
}

static void connect(void)
{
    UA_ClientConfig *config;
    UA_StatusCode status;
    client = UA_Client_new();
    config = UA_Client_getConfig(client);
    /* What is wrong with a certificate is an error here, not a warning. */
    if (wanted.certificate)
        secure(config);
    UA_String_clear(&config->clientDescription.applicationUri);
    config->clientDescription.applicationUri = UA_STRING_ALLOC(APPLICATION);
    config->securityMode = !strcmp(wanted.mode, "Sign") ? UA_MESSAGESECURITYMODE_SIGN
        : !strcmp(wanted.mode, "SignAndEncrypt")        ? UA_MESSAGESECURITYMODE_SIGNANDENCRYPT
                                                        : UA_MESSAGESECURITYMODE_NONE;
    config->noNewSession = true;
    if (wanted.channel_ms)
        config->secureChannelLifeTime = (UA_UInt32)atoi(wanted.channel_ms);
    if (wanted.identity)
        identify(config);
    status = wanted.user ? UA_Client_connectUsername(client, wanted.url, wanted.user, wanted.password)
                         : UA_Client_connect(client, wanted.url);
    if (!wanted.refused) {
        good(status, "connecting");
        return;
    }
    if (strcmp(UA_StatusCode_name(status), wanted.refused))
        fail("the log-in gave %s, not %s", UA_StatusCode_name(status), wanted.refused);
    UA_Client_delete(client);
    printf("{\"detail\": \"%s\"}\n", wanted.refused);
    exit(0);
}

/* -- what is there */

static void read_server(void)
{
    UA_Variant value;
    UA_Variant_init(&value);
    good(UA_Client_readValueAttribute(client, UA_NODEID_NUMERIC(0, UA_NS0ID_SERVER_SERVERSTATUS_STATE), &value),
         "reading ServerStatus.State");
    if (!UA_Variant_isScalar(&value) || *(UA_Int32 *)value.data != UA_SERVERSTATE_RUNNING)
        fail("the server is not running");
    UA_Variant_clear(&value);
    good(UA_Client_readValueAttribute(client, UA_NODEID_NUMERIC(0, UA_NS0ID_SERVER_NAMESPACEARRAY), &value),
         "reading NamespaceArray");
    if (!UA_Variant_hasArrayType(&value, &UA_TYPES[UA_TYPES_STRING]) || value.arrayLength < 2)
        fail("NamespaceArray has %zu entries", value.arrayLength);
    UA_Variant_clear(&value);
    good(UA_Client_getNamespaceIndex(client, UA_STRING((char *)NAMESPACE), &hub_namespace), NAMESPACE);
}

static void read_tag(void)
{
    UA_DateTime end = UA_DateTime_nowMonotonic() + 20 * UA_DATETIME_SEC;
    UA_ReadValueId id;
    UA_DataValue data;
    UA_ReadValueId_init(&id);
    id.nodeId = tag("input_7");
    id.attributeId = UA_ATTRIBUTEID_VALUE;
    for (;;) {
        data = UA_Client_read(client, &id);
        if (!data.hasStatus || UA_StatusCode_isGood(data.status))
            break;
        if (UA_DateTime_nowMonotonic() > end)
            fail("input_7 is %s", UA_StatusCode_name(data.status));
        UA_DataValue_clear(&data);
        UA_Client_run_iterate(client, 50);
    }
    if (!data.hasValue || number(&data.value) != 1007.0 || !data.hasSourceTimestamp)
        fail("input_7 is %f, with %s source time", number(&data.value), data.hasSourceTimestamp ? "a" : "no");
    UA_DataValue_clear(&data);
}

static int browse(void)
{
    UA_BrowseDescription description;
    UA_BrowseResult result;
    bool seen[MANY] = {false};
    char name[NAME];
    int pages = 0, index, end;
    UA_BrowseDescription_init(&description);
    description.nodeId = node("Weighbridge/Devices/plc-1");
    description.referenceTypeId = UA_NODEID_NUMERIC(0, UA_NS0ID_HASCOMPONENT);
    description.includeSubtypes = true;
    description.resultMask = UA_BROWSERESULTMASK_ALL;
    result = UA_Client_browse(client, NULL, PAGE, &description);
    for (;;) {
        UA_ByteString point;
        good(result.statusCode, "browsing");
        pages++;
        if (result.referencesSize > PAGE)
            fail("a page of %zu references", result.referencesSize);
        for (size_t i = 0; i < result.referencesSize; i++) {
            UA_String text = result.references[i].browseName.name;
            snprintf(name, sizeof name, "%.*s", (int)text.length, (char *)text.data);
            if (sscanf(name, "input_%d%n", &index, &end) != 1 || name[end])
                continue;
            if (index < 0 || index >= MANY || seen[index])
                fail("browsing gave %s twice, or never should have", name);
            seen[index] = true;
        }
        if (!result.continuationPoint.length)
            break;
        point = result.continuationPoint;
        UA_ByteString_init(&result.continuationPoint);
        UA_BrowseResult_clear(&result);
        result = UA_Client_browseNext(client, false, point);
        UA_ByteString_clear(&point);
    }
    UA_BrowseResult_clear(&result);
    for (index = 0; index < MANY; index++)
        if (!seen[index])
            fail("browsing did not give input_%d", index);
    if (pages < MANY / PAGE)
        fail("all names in %d pages", pages);
    return pages;
}

/* -- what changes */

static struct {
    int count, backwards, left_out;
    double last;
} changes;

static void changed(UA_Client *from, UA_UInt32 subscription, void *context, UA_UInt32 item, void *item_context,
                    UA_DataValue *value)
{
    double now;
    (void)from, (void)subscription, (void)context, (void)item, (void)item_context;
    if (!value->hasValue || !value->value.type)
        return;
    now = number(&value->value);
    /* The hub polls; a poll that comes late leaves a count out, but none comes twice or back. */
    changes.backwards += changes.count && now <= changes.last;
    changes.left_out += changes.count && now > changes.last ? (int)(now - changes.last) - 1 : 0;
    changes.last = now;
    changes.count++;
}

static void subscribe(void)
{
    UA_DateTime now = UA_DateTime_nowMonotonic(), end = now + 20 * UA_DATETIME_SEC;
    UA_DateTime at_least = now + (wanted.channel_ms ? 4 * atoi(wanted.channel_ms) * UA_DATETIME_MSEC : 0);
    UA_CreateSubscriptionRequest request = UA_CreateSubscriptionRequest_default();
    UA_CreateSubscriptionResponse response;
    UA_MonitoredItemCreateRequest item;
    UA_MonitoredItemCreateResult made;
    request.requestedPublishingInterval = 100;
    response = UA_Client_Subscriptions_create(client, request, NULL, NULL, NULL);
    good(response.responseHeader.serviceResult, "subscribing");
    item = UA_MonitoredItemCreateRequest_default(tag("count"));
    item.requestedParameters.samplingInterval = 0;
    item.requestedParameters.queueSize = 20;
    made = UA_Client_MonitoredItems_createDataChange(client, response.subscriptionId, UA_TIMESTAMPSTORETURN_BOTH,
                                                     item, NULL, changed, NULL);
    good(made.statusCode, "monitoring");
    while (changes.count < CHANGES || UA_DateTime_nowMonotonic() < at_least) {
        good(UA_Client_run_iterate(client, 50), "while subscribed");
        if (UA_DateTime_nowMonotonic() > end)
            fail("only %d changes came", changes.count);
    }
    if (changes.backwards)
        fail("%d counts of %d came twice or back", changes.backwards, changes.count);
    good(UA_Client_Subscriptions_deleteSingle(client, response.subscriptionId), "ending the subscription");
    UA_MonitoredItemCreateResult_clear(&made);
    UA_CreateSubscriptionResponse_clear(&response);
}

/* -- what is done */

static UA_StatusCode set(const char *name, double value)
{
    return UA_Client_writeValueAttribute_scalar(client, tag(name), &value, &UA_TYPES[UA_TYPES_DOUBLE]);
}

static void write_tags(void)
{
    UA_Byte level = 0;
    UA_Variant value;
    UA_DateTime end = UA_DateTime_nowMonotonic() + 20 * UA_DATETIME_SEC;
    double chosen = (double)(UA_DateTime_now() / UA_DATETIME_MSEC % 4000);
    bool mine = wanted.user || wanted.identity;
    good(UA_Client_readUserAccessLevelAttribute(client, tag("setpoint"), &level), "reading UserAccessLevel");
    if (!(level & UA_ACCESSLEVELMASK_WRITE) == mine)
        fail("UserAccessLevel is %u", level);
    if (!mine) {
        expect(set("setpoint", chosen), UA_STATUSCODE_BADUSERACCESSDENIED, "a stranger's write");
        return;
    }
    good(set("setpoint", chosen), "writing");
    for (;;) {
        bool equal;
        UA_Variant_init(&value);
        good(UA_Client_readValueAttribute(client, tag("setpoint"), &value), "reading back");
        equal = number(&value) == chosen;
        UA_Variant_clear(&value);
        if (equal)
            break;
        if (UA_DateTime_nowMonotonic() > end)
            fail("%f was written and never read back", chosen);
        UA_Client_run_iterate(client, 50);
    }
    expect(set("setpoint", 6000.0), UA_STATUSCODE_BADOUTOFRANGE, "a value out of range");
    expect(set("count", 1.0), UA_STATUSCODE_BADNOTWRITABLE, "writing what can only be read");
}

static size_t call(void)
{
    UA_String texts[2] = {UA_STRING("plc-1"), UA_STRING("count")};
    UA_DateTime at = UA_DateTime_now(), end = UA_DateTime_nowMonotonic() + 20 * UA_DATETIME_SEC;
    UA_Variant input[3], *output = NULL;
    size_t outputs = 0, size;
    UA_StatusCode status;
    UA_Variant_setScalar(&input[0], &texts[0], &UA_TYPES[UA_TYPES_STRING]);
    UA_Variant_setScalar(&input[1], &texts[1], &UA_TYPES[UA_TYPES_STRING]);
    UA_Variant_setScalar(&input[2], &at, &UA_TYPES[UA_TYPES_DATETIME]);
    /* The first samples are recorded a moment after they can be read. */
    while ((status = UA_Client_call(client, node("Weighbridge"), node("Weighbridge/GetEvidence"), 3, input,
                                    &outputs, &output)) == UA_STATUSCODE_BADNOTFOUND &&
           UA_DateTime_nowMonotonic() < end)
        UA_Client_run_iterate(client, 50);
    if (!wanted.user && !wanted.identity) {
        expect(status, UA_STATUSCODE_BADUSERACCESSDENIED, "a stranger's call");
        return 0;
    }
    good(status, "calling GetEvidence");
    if (outputs != 1 || !UA_Variant_hasScalarType(output, &UA_TYPES[UA_TYPES_BYTESTRING]))
        fail("GetEvidence returned %zu values", outputs);
    size = ((UA_ByteString *)output->data)->length;
    UA_Array_delete(output, outputs, &UA_TYPES[UA_TYPES_VARIANT]);
    return size;
}

static void arguments(int argc, char **argv)
{
    const struct {
        const char *name, **value;
    } options[] = {
        {"--certificate", &wanted.certificate}, {"--key", &wanted.key},
        {"--trust", &wanted.trust},             {"--user", &wanted.user},
        {"--password", &wanted.password},       {"--identity", &wanted.identity},
        {"--channel-ms", &wanted.channel_ms},   {"--refused", &wanted.refused},
    };
    if (argc < 4 || argc % 2)
        fail("usage: open62541_client URL POLICY MODE [OPTION VALUE]...");
    wanted.url = argv[1], wanted.policy = argv[2], wanted.mode = argv[3];
    for (int i = 4; i < argc; i += 2) {
        size_t at = 0, count = sizeof options / sizeof *options;
        while (at < count && strcmp(argv[i], options[at].name))
            at++;
        if (at == count)
            fail("unknown option %s", argv[i]);
        *options[at].value = argv[i + 1];
    }
}

int main(int argc, char **argv)
{
    int pages;
    size_t evidence;
    arguments(argc, argv);
    connect();
    read_server();
    read_tag();
    pages = browse();
    subscribe();
    write_tags();
    evidence = call();
    good(UA_Client_disconnect(client), "ending the session");
    UA_Client_delete(client);
    printf("{\"detail\": \"%d pages, %d changes, %d left out, %zu bytes of evidence\"}\n", pages, changes.count,
           changes.left_out, evidence);
    return 0;
}
