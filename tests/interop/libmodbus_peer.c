/* libmodbus as the other side.
 *
 *   libmodbus_peer server tcp | server rtu PORT    a device for the hub
 *   libmodbus_peer master PORT_NUMBER              a master that reads and writes the simulated PLC
 *
 * The server prints {"port": N} first (0 for a serial port); a line on standard input is answered with
 * its 60 holding registers and 16 coils as one JSON line; it ends with standard input. The master ends
 * with 0 when everything was as it should be.
 *
 *   cc libmodbus_peer.c -o libmodbus_peer $(pkg-config --cflags --libs libmodbus) -lpthread
 */

#include <arpa/inet.h>
#include <errno.h>
#include <modbus.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { UNIT = 5, REGISTERS = 60, COILS = 16, NOTEPAD = 1000 };

static modbus_mapping_t *map;

static void *dump(void *unused)
{
    char line[64];
    (void)unused;
    while (fgets(line, sizeof line, stdin)) {
        printf("{\"registers\": [");
        for (int i = 0; i < REGISTERS; i++)
            printf("%s%u", i ? ", " : "", map->tab_registers[i]);
        printf("], \"coils\": [");
        for (int i = 0; i < COILS; i++)
            printf("%s%u", i ? ", " : "", map->tab_bits[i]);
        printf("]}\n");
        fflush(stdout);
    }
    exit(0);
}

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    return 1;
}

static void answer(modbus_t *ctx)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        int length = modbus_receive(ctx, query);
        if (length > 0)
            modbus_reply(ctx, query, length, map);
        else if (length < 0)
            return;
    }
}

static int serve_tcp(void)
{
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    int port_socket, connection;
    struct sockaddr_in here;
    socklen_t size = sizeof here;
    if (!ctx)
        return fail("modbus_new_tcp");
    port_socket = socket(AF_INET, SOCK_STREAM, 0);
    memset(&here, 0, sizeof here);
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(port_socket, (struct sockaddr *)&here, sizeof here) || listen(port_socket, 1))
        return fail("listen");
    getsockname(port_socket, (struct sockaddr *)&here, &size);
    printf("{\"port\": %d}\n", ntohs(here.sin_port));
    fflush(stdout);
    while ((connection = accept(port_socket, NULL, NULL)) >= 0) {
        modbus_set_socket(ctx, connection);
        answer(ctx);
        close(connection);
    }
    return fail("accept");
}

static int serve_rtu(const char *port)
{
    modbus_t *ctx = modbus_new_rtu(port, 115200, 'N', 8, 1);
    if (!ctx || modbus_set_slave(ctx, UNIT) || modbus_connect(ctx))
        return fail(port);
    printf("{\"port\": 0}\n");
    fflush(stdout);
    for (;;) {
        answer(ctx);
        modbus_flush(ctx);
    }
}

static int master(int port)
{
    uint16_t words[40], wanted[3] = {11, 22, 33};
    uint8_t bits[8], on[3] = {1, 0, 1};
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", port);
    if (!ctx || modbus_set_slave(ctx, 1) || modbus_connect(ctx))
        return fail("connect");
    if (modbus_read_input_registers(ctx, 0, 12, words) != 12)
        return fail("function 4");
    if (modbus_read_registers(ctx, 0, 12, words) != 12)
        return fail("function 3");
    if (modbus_read_input_bits(ctx, 0, 2, bits) != 2 || modbus_read_bits(ctx, 0, 2, bits) != 2)
        return fail("functions 1 and 2");
    if (modbus_write_register(ctx, NOTEPAD, 0x00ff) != 1)
        return fail("function 6");
    if (modbus_mask_write_register(ctx, NOTEPAD, 0xfff0, 0x0003) < 0)
        return fail("function 22");
    if (modbus_write_registers(ctx, NOTEPAD + 1, 3, wanted) != 3)
        return fail("function 16");
    if (modbus_write_and_read_registers(ctx, NOTEPAD + 4, 1, wanted, NOTEPAD, 5, words) != 5)
        return fail("function 23");
    if (words[0] != 0x00f3 || memcmp(words + 1, wanted, sizeof wanted) || words[4] != 11)
        return fail("the registers are not what was written");
    if (modbus_write_bit(ctx, NOTEPAD, 1) != 1 || modbus_write_bits(ctx, NOTEPAD + 1, 3, on) != 3)
        return fail("functions 5 and 15");
    if (modbus_read_bits(ctx, NOTEPAD, 4, bits) != 4)
        return fail("function 1");
    if (bits[0] != 1 || memcmp(bits + 1, on, sizeof on))
        return fail("the coils are not what was written");
    if (modbus_read_registers(ctx, 500, 1, words) != -1 || errno != EMBXILADD)
        return fail("an address that is not there");
    modbus_close(ctx);
    modbus_free(ctx);
    puts("ok");
    return 0;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc == 3 && !strcmp(argv[1], "master"))
        return master(atoi(argv[2]));
    if (argc < 3 || strcmp(argv[1], "server"))
        return 2;
    map = modbus_mapping_new(COILS, COILS, REGISTERS, REGISTERS);
    if (!map)
        return fail("modbus_mapping_new");
    for (int i = 0; i < REGISTERS; i++)
        map->tab_registers[i] = 7;
    pthread_create(&thread, NULL, dump, NULL);
    return strcmp(argv[2], "rtu") ? serve_tcp() : serve_rtu(argv[3]);
}
