// node-opcua as SCADA: subscribes to conditions, refreshes, acknowledges and confirms one.
//
//     node opcua_alarms.js URL SOURCE_NAME        (NODE_PATH names where node-opcua is)
"use strict";

const opcua = require("node-opcua");
const { callConditionRefresh } = require("node-opcua-alarm-condition");

const FIELDS = [
    "EventId", "EventType", "SourceName", "Message", "Severity", "ConditionName", "BranchId", "Retain",
    "ActiveState.Id", "AckedState.Id", "ConfirmedState.Id", "Comment", "ClientUserId", "ConditionId",
];

async function main([url, source]) {
    const client = opcua.OPCUAClient.create({
        endpointMustExist: false,
        connectionStrategy: { maxRetry: 2, initialDelay: 200 },
    });
    await client.connect(url);
    const session = await client.createSession();
    const subscription = await session.createSubscription2({
        requestedPublishingInterval: 100, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 20,
        maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 0,
    });
    const filter = opcua.constructEventFilter(FIELDS, opcua.ofType(opcua.resolveNodeId("ConditionType")));
    const item = await subscription.monitor(
        { nodeId: opcua.resolveNodeId("Server"), attributeId: opcua.AttributeIds.EventNotifier },
        { samplingInterval: 0, discardOldest: true, queueSize: 10_000, filter },
        opcua.TimestampsToReturn.Both,
    );
    const seen = [];
    let look = () => {};
    item.on("changed", (fields) => {
        const event = {};
        FIELDS.forEach((name, at) => { event[name] = fields[at].value; });
        seen.push(event);
        look();
    });
    const wait = (what, wanted) => new Promise((found, failed) => {
        const late = setTimeout(() => {
            const last = seen.slice(-4).map((e) => JSON.stringify(e));
            failed(new Error(`${what} did not come in 30 s; last seen: ${last}`));
        }, 30_000);
        look = () => {
            const event = seen.find(wanted);
            if (event) {
                clearTimeout(late);
                look = () => {};
                found(event);
            }
        };
        look();
    });
    const good = (status, what) => {
        if (!status.isGood()) throw new Error(`${what}: ${status}`);
    };
    const type = (name) => (event) => event.EventType.toString() === opcua.resolveNodeId(name).toString();

    good(await callConditionRefresh(session, subscription.subscriptionId), "ConditionRefresh");
    await wait("the start of the refresh", type("RefreshStartEventType"));
    const raised = await wait("the alarm", (e) => e.SourceName === source && e["ActiveState.Id"] === true);
    await wait("the end of the refresh", type("RefreshEndEventType"));
    if (raised["AckedState.Id"] !== false || !raised.Retain) throw new Error(JSON.stringify(raised));
    if (!raised.ConditionId) throw new Error(`there is no ConditionId: ${JSON.stringify(raised)}`);

    const said = "node-opcua saw it";
    good(await session.acknowledgeCondition(raised.ConditionId, raised.EventId, said), "Acknowledge");
    const acked = await wait("the acknowledgement", (e) => e.SourceName === source && e["AckedState.Id"] === true);
    if (acked.Comment.text !== said) throw new Error(`the comment is ${acked.Comment}`);
    const again = await session.acknowledgeCondition(raised.ConditionId, raised.EventId, said);
    if (again.name !== "BadConditionBranchAlreadyAcked") throw new Error(`a second time: ${again}`);
    good(await session.confirmCondition(acked.ConditionId, acked.EventId, "and dealt with it"), "Confirm");
    await wait("the confirmation", (e) => e.SourceName === source && e["ConfirmedState.Id"] === true);
    await subscription.terminate();
    await session.close();
    await client.disconnect();
    console.log(`${seen.length} events; severity ${raised.Severity}: ${raised.Message.text}`);
}

main(process.argv.slice(2)).then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
});
