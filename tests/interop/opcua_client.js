// node-opcua as SCADA: reads, browses in pages, subscribes, writes.
//
//     node opcua_client.js URL POLICY MODE [USER PASSWORD [refused]]
//
// Prints one line of JSON and exits with 0 when everything was as it should be. With "refused" the
// log-in must be refused.

const {
    AttributeIds, BrowseDirection, ClientMonitoredItem, DataType, MessageSecurityMode, OPCUAClient,
    OPCUACertificateManager, SecurityPolicy, TimestampsToReturn, UserTokenType,
} = require("node-opcua");

const [url, policy, mode, user, password, refused] = process.argv.slice(2);
const NAMESPACE = "urn:weighbridge:hub";
const PAGE = 7;
const MANY = 40;

function check(holds, what) {
    if (!holds) {
        throw new Error(what);
    }
}

async function browseInPages(session, nodeId) {
    session.requestedMaxReferencesPerNode = PAGE;
    let result = await session.browse({
        nodeId,
        browseDirection: BrowseDirection.Forward,
        referenceTypeId: "HasComponent",
        includeSubtypes: true,
        resultMask: 63,
    });
    const names = [];
    let pages = 0;
    for (;;) {
        pages += 1;
        check(result.references.length <= PAGE, `a page of ${result.references.length}`);
        names.push(...result.references.map((reference) => reference.browseName.name));
        if (!result.continuationPoint || result.continuationPoint.length === 0) {
            return { names, pages };
        }
        result = await session.browseNext(result.continuationPoint, false);
    }
}

async function counts(session, nodeId) {
    const subscription = await session.createSubscription2({
        requestedPublishingInterval: 100,
        requestedLifetimeCount: 600,
        requestedMaxKeepAliveCount: 20,
        publishingEnabled: true,
    });
    const item = ClientMonitoredItem.create(
        subscription,
        { nodeId, attributeId: AttributeIds.Value },
        { samplingInterval: 0, queueSize: 20, discardOldest: true },
        TimestampsToReturn.Both,
    );
    const values = [];
    await new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`only ${values.length} changes came`)), 20000);
        item.on("changed", (data) => {
            values.push(Number(data.value.value[1] ?? data.value.value));
            if (values.length >= 10) {
                clearTimeout(late);
                resolve();
            }
        });
    });
    await subscription.terminate();
    for (let i = 1; i < values.length; i += 1) {
        // The hub polls; a poll that comes late leaves a count out, but none comes twice or back.
        check(values[i] > values[i - 1], `counts came twice or back: ${values}`);
    }
    return values.length;
}

async function main() {
    const certificates = new OPCUACertificateManager({
        automaticallyAcceptUnknownCertificate: true,
        rootFolder: `${process.env.HOME}/node-opcua-pki`,
    });
    await certificates.initialize();
    const client = OPCUAClient.create({
        endpointMustExist: true,
        securityMode: MessageSecurityMode[mode],
        securityPolicy: SecurityPolicy[policy],
        clientCertificateManager: certificates,
        connectionStrategy: { maxRetry: 1 },
        keepSessionAlive: true,
        requestedSessionTimeout: 60000,
    });
    await client.connect(url);
    const identity = user
        ? { type: UserTokenType.UserName, userName: user, password }
        : { type: UserTokenType.Anonymous };
    let session;
    try {
        session = await client.createSession(identity);
    } catch (error) {
        await client.disconnect();
        check(refused && /Identity|AccessDenied/.test(error.message), error.message);
        return "refused";
    }
    check(!refused, "a wrong password was taken");
    const namespaces = await session.readNamespaceArray();
    const index = namespaces.indexOf(NAMESPACE);
    check(index > 0, `namespaces ${namespaces}`);
    const node = (tag) => `ns=${index};s=Weighbridge/Devices/plc-1/${tag}`;
    const until = Date.now() + 20000;
    let data;
    do {
        data = await session.read({ nodeId: node("input_7"), attributeId: AttributeIds.Value });
    } while (!data.statusCode.isGood() && Date.now() < until);
    const seven = Number(data.value.value?.[1] ?? data.value.value);
    check(seven === 1007 && data.sourceTimestamp, `input_7 is ${data}`);
    const { names, pages } = await browseInPages(session, `ns=${index};s=Weighbridge/Devices/plc-1`);
    for (let i = 0; i < MANY; i += 1) {
        check(names.filter((name) => name === `input_${i}`).length === 1, `browsing gave ${names}`);
    }
    check(pages >= Math.floor(MANY / PAGE), `${names.length} names in ${pages} pages`);
    const changes = await counts(session, node("count"));
    const write = (tag, value) => session.write({
        nodeId: node(tag),
        attributeId: AttributeIds.Value,
        value: { value: { dataType: DataType.Double, value } },
    });
    const expect = async (tag, value, name) => {
        const status = await write(tag, value);
        check(status.name === name, `writing ${value} to ${tag} gave ${status.name}, not ${name}`);
    };
    if (user) {
        await expect("setpoint", 42.25, "Good");
        await expect("setpoint", 6000, "BadOutOfRange");
        await expect("count", 1, "BadNotWritable");
    } else {
        await expect("setpoint", 1, "BadUserAccessDenied");
    }
    await session.close();
    await client.disconnect();
    return `${pages} pages, ${changes} changes`;
}

main().then(
    (detail) => {
        console.log(JSON.stringify({ detail }));
        process.exit(0);
    },
    (error) => {
        console.log(JSON.stringify({ error: error.stack }));
        process.exit(1);
    },
);
