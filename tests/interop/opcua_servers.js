// A controller on a node-opcua server, for the hub to read, write and call, under every security policy.
//
//     node opcua_servers.js --port N --others K --extra N --pki DIR
//
// The same as asyncua_controller.py: it prints one JSON line with its url, changes `level` ten times a
// second until standard input closes, and takes `delete NAME` and `restore NAME` on standard input.
// `node_modules` with node-opcua is found by NODE_PATH.

"use strict";

const path = require("path");
const readline = require("readline");
const {
    DataType, MessageSecurityMode, OPCUACertificateManager, OPCUAServer, SecurityPolicy, StatusCodes,
} = require("node-opcua");

const NAMESPACE = "urn:weighbridge:interop:controller";

function option(name, otherwise) {
    const at = process.argv.indexOf(name);
    return at < 0 ? otherwise : process.argv[at + 1];
}

async function main() {
    const pki = option("--pki");
    const manager = new OPCUACertificateManager({
        automaticallyAcceptUnknownCertificate: true,
        rootFolder: path.join(pki, "pki"),
    });
    await manager.initialize();
    const server = new OPCUAServer({
        hostname: "127.0.0.1",
        port: Number(option("--port", "0")),
        serverCertificateManager: manager,
        allowAnonymous: true,
        securityModes: [
            MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt,
        ],
        securityPolicies: [
            SecurityPolicy.None, SecurityPolicy.Basic256Sha256,
            SecurityPolicy.Aes128_Sha256_RsaOaep, SecurityPolicy.Aes256_Sha256_RsaPss,
        ],
    });
    await server.initialize();
    const space = server.engine.addressSpace;
    const objects = space.rootFolder.objects;
    for (let number = 0; number < Number(option("--others", "0")); number += 1) {
        const other = space.registerNamespace(`urn:other:${number}`);
        other.addVariable({
            organizedBy: objects, browseName: "level", nodeId: "s=level", dataType: "Double",
            value: { dataType: DataType.Double, value: -1 },
        });
    }
    const own = space.registerNamespace(NAMESPACE);
    const machine = own.addObject({ organizedBy: objects, browseName: "Machine", nodeId: "s=Machine" });
    const variable = (name, value, writable) => own.addVariable({
        componentOf: machine, browseName: name, nodeId: `s=${name}`, dataType: "Double",
        accessLevel: writable ? "CurrentRead | CurrentWrite" : "CurrentRead",
        userAccessLevel: writable ? "CurrentRead | CurrentWrite" : "CurrentRead",
        value: { dataType: DataType.Double, value },
    });
    const nodes = { level: variable("level", 0, false), other: variable("other", 0, false) };
    variable("setpoint", 1, true);
    for (let step = 0; step < Number(option("--extra", "0")); step += 1) {
        variable(`v${step}`, step, false);
    }
    const number = (name) => ({ name, dataType: DataType.Double });
    const add = own.addMethod(machine, {
        browseName: "Add", nodeId: "s=Add",
        inputArguments: [number("a"), number("b")], outputArguments: [number("sum")],
    });
    add.bindMethod((inputs, _context, done) => done(null, {
        statusCode: StatusCodes.Good,
        outputArguments: [{ dataType: DataType.Double, value: inputs[0].value + inputs[1].value }],
    }));
    await server.start();
    const port = server.endpoints[0].port;
    console.log(JSON.stringify({ url: `opc.tcp://127.0.0.1:${port}/` }));

    let step = 0;
    setInterval(() => {
        step += 1;
        for (const node of Object.values(nodes)) {
            node.setValueFromSource({ dataType: DataType.Double, value: step });
        }
    }, 100);
    const lines = readline.createInterface({ input: process.stdin });
    lines.on("line", (line) => {
        const [act, name] = line.split(" ");
        if (act === "delete") {
            space.deleteNode(nodes[name].nodeId);
            delete nodes[name];
        } else if (act === "restore") {
            nodes[name] = variable(name, 0, false);
        }
    });
    lines.on("close", () => process.exit(0));
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
