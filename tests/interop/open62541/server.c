/* A controller on an open62541 server, for the hub to read, write and call, under every security policy.
 *
 *   open62541_server --port N --others K --extra N --pki DIR
 *
 * The same as asyncua_controller.py: it prints one JSON line with its url, changes `level` ten times a
 * second until standard input closes, and takes `delete NAME` and `restore NAME` on standard input. --extra
 * adds so many variables `v0`, `v1`, … It makes itself a certificate, which it keeps in DIR as a
 * controller does over a restart, and trusts every client.
 */

#include <open62541/plugin/accesscontrol_default.h>
#include <open62541/plugin/certificategroup_default.h>
#include <open62541/plugin/create_certificate.h>
#include <open62541/plugin/log_stdout.h>
#include <open62541/server.h>
#include <open62541/server_config_default.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define APPLICATION "urn:weighbridge:interop:open62541-controller"

static UA_Server *server;
static UA_UInt16 own;
static struct {
    const char *name;
    bool there;
} moving[] = {{"level", false}, {"other", false}};
enum { MOVING = sizeof moving / sizeof *moving, LINE = 128 };

static void good(UA_StatusCode status, const char *what)
{
    if (status == UA_STATUSCODE_GOOD)
        return;
    fprintf(stderr, "%s: %s\n", what, UA_StatusCode_name(status));
    exit(1);
}

/* Reads a whole file; false when it is not there. */
static bool load(const char *folder, const char *name, UA_ByteString *bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    good(UA_ByteString_allocBuffer(bytes, 65536), path);
    bytes->length = fread(bytes->data, 1, bytes->length, file);
    fclose(file);
    return true;
}

static void save(const char *folder, const char *name, const UA_ByteString *bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes->data, 1, bytes->length, file) != bytes->length || fclose(file)) {
        perror(path);
        exit(1);
    }
}

static void configure(UA_ServerConfig *config, UA_UInt16 port, const char *pki)
{
    UA_String subject[] = {UA_STRING_STATIC("O=interop"), UA_STRING_STATIC("CN=controller@127.0.0.1")};
    UA_String names[] = {UA_STRING_STATIC("IP:127.0.0.1"), UA_STRING_STATIC("URI:" APPLICATION)};
    UA_String url;
    char text[LINE];
    UA_ByteString key = UA_BYTESTRING_NULL, certificate = UA_BYTESTRING_NULL;
    UA_UInt16 bits = 2048;
    UA_KeyValueMap parameters = UA_KEYVALUEMAP_NULL;
    UA_KeyValueMap_setScalar(&parameters, UA_QUALIFIEDNAME(0, "key-size-bits"), &bits,
                             &UA_TYPES[UA_TYPES_UINT16]);
    if (!load(pki, "key.der", &key) || !load(pki, "cert.der", &certificate)) {
        good(UA_CreateCertificate(UA_Log_Stdout, subject, 2, names, 2, UA_CERTIFICATEFORMAT_DER, &parameters, &key,
                                  &certificate),
             "making a certificate");
        save(pki, "key.der", &key);
        save(pki, "cert.der", &certificate);
    }
    UA_KeyValueMap_clear(&parameters);
    good(UA_ServerConfig_setDefaultWithSecurityPolicies(config, port, &certificate, &key, NULL, 0, NULL, 0, NULL, 0),
         "configuring");
    UA_ByteString_clear(&key);
    UA_ByteString_clear(&certificate);
    config->secureChannelPKI.clear(&config->secureChannelPKI);
    UA_CertificateGroup_AcceptAll(&config->secureChannelPKI);
    UA_String_clear(&config->applicationDescription.applicationUri);
    config->applicationDescription.applicationUri = UA_STRING_ALLOC(APPLICATION);
    for (size_t i = 0; i < config->endpointsSize; i++) {
        UA_String_clear(&config->endpoints[i].server.applicationUri);
        config->endpoints[i].server.applicationUri = UA_STRING_ALLOC(APPLICATION);
    }
    /* On loopback only. */
    snprintf(text, sizeof text, "opc.tcp://127.0.0.1:%u", port);
    url = UA_STRING_ALLOC(text);
    UA_Array_delete(config->serverUrls, config->serverUrlsSize, &UA_TYPES[UA_TYPES_STRING]);
    config->serverUrls = NULL;
    config->serverUrlsSize = 0;
    good(UA_Array_appendCopy((void **)&config->serverUrls, &config->serverUrlsSize, &url,
                             &UA_TYPES[UA_TYPES_STRING]),
         "the address");
    UA_String_clear(&url);
}

static void variable(UA_UInt16 space, const char *name, double value, bool writable, UA_NodeId parent)
{
    UA_VariableAttributes attributes = UA_VariableAttributes_default;
    UA_Variant_setScalar(&attributes.value, &value, &UA_TYPES[UA_TYPES_DOUBLE]);
    attributes.dataType = UA_TYPES[UA_TYPES_DOUBLE].typeId;
    attributes.valueRank = UA_VALUERANK_SCALAR;
    attributes.displayName = UA_LOCALIZEDTEXT("", (char *)name);
    attributes.accessLevel = UA_ACCESSLEVELMASK_READ | (writable ? UA_ACCESSLEVELMASK_WRITE : 0);
    good(UA_Server_addVariableNode(server, UA_NODEID_STRING(space, (char *)name), parent,
                                   UA_NODEID_NUMERIC(0, UA_NS0ID_HASCOMPONENT),
                                   UA_QUALIFIEDNAME(space, (char *)name),
                                   UA_NODEID_NUMERIC(0, UA_NS0ID_BASEDATAVARIABLETYPE), attributes, NULL, NULL),
         name);
}

static void restore(size_t index)
{
    variable(own, moving[index].name, 0.0, false, UA_NODEID_STRING(own, "Machine"));
    moving[index].there = true;
}

static UA_StatusCode add(UA_Server *at, const UA_NodeId *session, void *session_context, const UA_NodeId *method,
                         void *method_context, const UA_NodeId *object, void *object_context, size_t inputs,
                         const UA_Variant *input, size_t outputs, UA_Variant *output)
{
    double sum;
    (void)at, (void)session, (void)session_context, (void)method, (void)method_context;
    (void)object, (void)object_context, (void)inputs, (void)outputs;
    sum = *(UA_Double *)input[0].data + *(UA_Double *)input[1].data;
    return UA_Variant_setScalarCopy(output, &sum, &UA_TYPES[UA_TYPES_DOUBLE]);
}

static void fill(int others, int extra)
{
    UA_ObjectAttributes machine = UA_ObjectAttributes_default;
    UA_MethodAttributes attributes = UA_MethodAttributes_default;
    UA_Argument number[3];
    char text[LINE];
    for (int i = 0; i < others; i++) {
        snprintf(text, sizeof text, "urn:other:%d", i);
        variable(UA_Server_addNamespace(server, text), "level", -1.0, false,
                 UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER));
    }
    own = UA_Server_addNamespace(server, "urn:weighbridge:interop:controller");
    machine.displayName = UA_LOCALIZEDTEXT("", "Machine");
    good(UA_Server_addObjectNode(server, UA_NODEID_STRING(own, "Machine"),
                                 UA_NODEID_NUMERIC(0, UA_NS0ID_OBJECTSFOLDER),
                                 UA_NODEID_NUMERIC(0, UA_NS0ID_ORGANIZES), UA_QUALIFIEDNAME(own, "Machine"),
                                 UA_NODEID_NUMERIC(0, UA_NS0ID_BASEOBJECTTYPE), machine, NULL, NULL),
         "Machine");
    for (size_t i = 0; i < MOVING; i++)
        restore(i);
    variable(own, "setpoint", 1.0, true, UA_NODEID_STRING(own, "Machine"));
    for (int i = 0; i < extra; i++) {
        snprintf(text, sizeof text, "v%d", i);
        variable(own, text, i, false, UA_NODEID_STRING(own, "Machine"));
    }
    for (size_t i = 0; i < 3; i++) {
        UA_Argument_init(&number[i]);
        number[i].name = UA_STRING(i == 0 ? "a" : i == 1 ? "b" : "sum");
        number[i].dataType = UA_TYPES[UA_TYPES_DOUBLE].typeId;
        number[i].valueRank = UA_VALUERANK_SCALAR;
    }
    attributes.displayName = UA_LOCALIZEDTEXT("", "Add");
    attributes.executable = attributes.userExecutable = true;
    good(UA_Server_addMethodNode(server, UA_NODEID_STRING(own, "Add"), UA_NODEID_STRING(own, "Machine"),
                                 UA_NODEID_NUMERIC(0, UA_NS0ID_HASCOMPONENT), UA_QUALIFIEDNAME(own, "Add"),
                                 attributes, add, 2, number, 1, number + 2, NULL, NULL),
         "Add");
}

static void move(UA_Server *at, void *context)
{
    static double step;
    UA_DataValue value;
    (void)at, (void)context;
    step += 1.0;
    UA_DataValue_init(&value);
    UA_Variant_setScalar(&value.value, &step, &UA_TYPES[UA_TYPES_DOUBLE]);
    value.hasValue = value.hasSourceTimestamp = true;
    value.sourceTimestamp = UA_DateTime_now();
    for (size_t i = 0; i < MOVING; i++)
        if (moving[i].there)
            good(UA_Server_writeDataValue(server, UA_NODEID_STRING(own, (char *)moving[i].name), value), "level");
}

/* Obeys a command. */
static void obey(const char *line)
{
    char act[LINE], name[LINE];
    if (sscanf(line, "%127s %127s", act, name) != 2)
        return;
    for (size_t i = 0; i < MOVING; i++) {
        if (strcmp(name, moving[i].name))
            continue;
        if (!strcmp(act, "restore")) {
            restore(i);
        } else if (!strcmp(act, "delete")) {
            good(UA_Server_deleteNode(server, UA_NODEID_STRING(own, name), true), "deleting");
            moving[i].there = false;
        }
    }
}

/* Whether there is still somebody there. */
static bool listen_to_commands(void)
{
    static char line[LINE];
    static size_t length;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;
    while (poll(&input, 1, 0) > 0) {
        if (read(STDIN_FILENO, &byte, 1) != 1)
            return false;
        if (byte != '\n' && length + 1 < sizeof line) {
            line[length++] = byte;
            continue;
        }
        line[length] = '\0';
        length = 0;
        obey(line);
    }
    return true;
}

int main(int argc, char **argv)
{
    int port = 0, others = 0, extra = 0;
    const char *pki = ".";
    UA_ServerConfig config;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port"))
            port = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--others"))
            others = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--extra"))
            extra = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--pki"))
            pki = argv[i + 1];
    }
    memset(&config, 0, sizeof config);
    config.logging = UA_Log_Stdout_new(UA_LOGLEVEL_WARNING);
    configure(&config, (UA_UInt16)port, pki);
    server = UA_Server_newWithConfig(&config);
    fill(others, extra);
    good(UA_Server_addRepeatedCallback(server, move, NULL, 100.0, NULL), "the clock");
    good(UA_Server_run_startup(server), "starting");
    printf("{\"url\": \"opc.tcp://127.0.0.1:%d/\"}\n", port);
    fflush(stdout);
    while (listen_to_commands())
        UA_Server_run_iterate(server, true);
    UA_Server_run_shutdown(server);
    UA_Server_delete(server);
    return 0;
}
