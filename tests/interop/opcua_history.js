// Reads processed history with node-opcua, and prints it as one JSON object.
//
//     node opcua_history.js ENDPOINT START_MS END_MS INTERVAL_MS

const {
  AggregateFunction,
  MessageSecurityMode,
  OPCUAClient,
  SecurityPolicy,
} = require("node-opcua");

async function main() {
  const [endpoint, start, end, interval] = process.argv.slice(2);
  const client = OPCUAClient.create({
    endpointMustExist: false,
    securityMode: MessageSecurityMode.None,
    securityPolicy: SecurityPolicy.None,
    connectionStrategy: { maxRetry: 1 },
  });
  await client.connect(endpoint);
  const session = await client.createSession();
  const namespaces = await session.readNamespaceArray();
  const own = namespaces.indexOf("urn:weighbridge:hub");
  const nodeId = `ns=${own};s=Weighbridge/Devices/robot-1/level`;
  const said = {};
  for (const name of ["Average", "Minimum", "Maximum", "Count", "TimeAverage", "Interpolative"]) {
    const result = await session.readAggregateValue(
      { nodeId },
      new Date(Number(start)),
      new Date(Number(end)),
      AggregateFunction[name],
      Number(interval),
    );
    said[name] = {
      status: result.statusCode.name,
      values: (result.historyData?.dataValues ?? []).map((v) => ({
        time: v.sourceTimestamp.getTime(),
        value: Array.isArray(v.value?.value) ? v.value.value[1] : v.value?.value ?? null,
        status: v.statusCode.value,
      })),
    };
  }
  await session.close();
  await client.disconnect();
  console.log(JSON.stringify(said));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
