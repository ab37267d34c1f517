/* How long a fast client takes to have many values of a controller: what a server can do at best.
 *
 *   open62541_many URL COUNT
 *
 * It subscribes `v0`, `v1`, … in requests of 1,000, without security, and prints one JSON line: seconds from
 * the first byte until everything was subscribed, and until every value had come.
 */

#include <open62541/client.h>
#include <open62541/client_config_default.h>
#include <open62541/client_subscriptions.h>
#include <open62541/plugin/log_stdout.h>

#include <stdio.h>
#include <stdlib.h>

enum { REQUEST = 1000, NAME = 16 };

static size_t values;

static void good(UA_StatusCode status, const char *what)
{
    if (status == UA_STATUSCODE_GOOD)
        return;
    printf("{\"error\": \"%s: %s\"}\n", what, UA_StatusCode_name(status));
    exit(1);
}

static void changed(UA_Client *from, UA_UInt32 subscription, void *context, UA_UInt32 item, void *item_context,
                    UA_DataValue *value)
{
    bool *seen = (bool *)item_context;
    (void)from, (void)subscription, (void)context, (void)item;
    if (*seen || !value->hasValue)
        return;
    *seen = true;
    values++;
}

static double seconds_since(UA_DateTime began)
{
    return (double)(UA_DateTime_nowMonotonic() - began) / UA_DATETIME_SEC;
}

int main(int argc, char **argv)
{
    UA_DateTime began = UA_DateTime_nowMonotonic();
    size_t count = argc == 3 ? (size_t)atoi(argv[2]) : 0;
    UA_Client *client = UA_Client_new();
    UA_ClientConfig *config = UA_Client_getConfig(client);
    UA_CreateSubscriptionRequest wanted = UA_CreateSubscriptionRequest_default();
    UA_MonitoredItemCreateRequest *items = calloc(REQUEST, sizeof *items);
    UA_Client_DataChangeNotificationCallback callbacks[REQUEST];
    char(*names)[NAME] = calloc(REQUEST, sizeof *names);
    bool *seen = calloc(count + 1, sizeof *seen);
    void *contexts[REQUEST];
    UA_CreateSubscriptionResponse subscription;
    UA_UInt16 index;
    double subscribed;
    if (count == 0 || !items || !names || !seen)
        return 2;
    config->logging->context = (void *)UA_LOGLEVEL_ERROR;
    config->timeout = 60000;
    good(UA_Client_connect(client, argv[1]), "connecting");
    good(UA_Client_getNamespaceIndex(client, UA_STRING("urn:weighbridge:interop:controller"), &index), "namespace");
    wanted.requestedPublishingInterval = 100;
    subscription = UA_Client_Subscriptions_create(client, wanted, NULL, NULL, NULL);
    good(subscription.responseHeader.serviceResult, "subscribing");
    for (size_t done = 0; done < count;) {
        UA_CreateMonitoredItemsRequest request;
        UA_CreateMonitoredItemsResponse response;
        size_t size = count - done < REQUEST ? count - done : REQUEST;
        for (size_t i = 0; i < size; i++) {
            snprintf(names[i], NAME, "v%zu", done + i);
            items[i] = UA_MonitoredItemCreateRequest_default(UA_NODEID_STRING(index, names[i]));
            items[i].requestedParameters.samplingInterval = 100;
            callbacks[i] = changed;
            contexts[i] = &seen[done + i];
        }
        UA_CreateMonitoredItemsRequest_init(&request);
        request.subscriptionId = subscription.subscriptionId;
        request.timestampsToReturn = UA_TIMESTAMPSTORETURN_BOTH;
        request.itemsToCreate = items;
        request.itemsToCreateSize = size;
        response = UA_Client_MonitoredItems_createDataChanges(client, request, contexts, callbacks, NULL);
        good(response.responseHeader.serviceResult, "monitoring");
        for (size_t i = 0; i < response.resultsSize; i++)
            good(response.results[i].statusCode, "an item");
        UA_CreateMonitoredItemsResponse_clear(&response);
        done += size;
    }
    subscribed = seconds_since(began);
    while (values < count) {
        good(UA_Client_run_iterate(client, 10), "while subscribed");
        if (seconds_since(began) > 100.0)
            good(UA_STATUSCODE_BADTIMEOUT, "waiting for values");
    }
    printf("{\"subscribed\": %.2f, \"values\": %.2f}\n", subscribed, seconds_since(began));
    UA_Client_disconnect(client);
    UA_Client_delete(client);
    return 0;
}
