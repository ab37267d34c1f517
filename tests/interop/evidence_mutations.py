"""Evidence files, changed at random: in their bytes, in their form, and in what they say."""

import copy
import json
import re

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def text_of(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def claims(evidence):
    """Everything that an evidence says, one text each: a file that says less has fewer of them."""
    said = {text_of(evidence["validators"])}
    for block in evidence["blocks"]:
        header = text_of(block["header"])
        said.add(header)
        for shown in block["records"]:
            record = header + text_of([shown["position"], shown["record"]["body"]])
            said.add(record)
            said.update(record + text_of(sample) for sample in shown["samples"])
            if shown["opened"]:
                said.add(record + text_of(shown["opened"]))
    return said


def places(value):
    """Every (container, key) below a value."""
    pairs = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    for key, inner in pairs:
        yield value, key
        yield from places(inner)


class Mutations:
    """Mutated files without end; the same for the same generator and files."""

    def __init__(self, random, files):
        self.random, self.files = random, files
        self.ways = [self.bytes, self.form, self.entry, self.entry, self.leaf, self.leaf, self.leaf, self.fields, self.transplant]

    def next(self):
        """What was done, and the file that came of it: another than the one it was made of."""
        while True:
            data = self.random.choice(self.files)
            way = self.random.choice(self.ways)
            mutated = way(data)
            # Now and then two changes at once, which might undo each other's harm.
            if mutated is not None and self.random.random() < 0.1:
                try:
                    mutated = self.random.choice(self.ways)(mutated) or mutated
                except (ValueError, TypeError, LookupError, AttributeError):
                    pass
            if mutated is not None and mutated != data:
                return way.__name__, mutated

    def bytes(self, data):
        random, at = self.random, self.random.randrange(len(data))
        length = random.randrange(1, 40)
        return random.choice([
            lambda: data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1:],
            lambda: data[:at] + bytes([random.randrange(256)]) + data[at + 1:],
            lambda: data[:at] + bytes([random.choice(b'0123456789abcdefABCDEF",:{}[] \n\\')]) + data[at:],
            lambda: data[:at] + data[at + length:],
            lambda: data[:at] + data[max(0, at - length):],
            lambda: data[:at],
            lambda: data + random.choice([b"\n", b" ", b"\0", b"{}", data]),
        ])()

    def form(self, data):
        """The same, written otherwise."""
        random, text = self.random, data.decode()
        value = json.loads(text)
        at = random.choice([match.end() for match in re.finditer(r'[{\[,:]', text)])
        number = random.choice(list(re.finditer(r":(\d+)", text)))
        whole = random.choice(["{}.0", "{}e0", "+{}", "0{}", "-{}", '"{}"', "{}E+0", "{}0e-1"]).format(number[1])
        string = random.choice(list(re.finditer(r'"([^"\\]+)"', text)))
        place = random.randrange(len(string[1]))
        escaped = "".join(f"\\u{unit:04x}" for unit in units(string[1][place]))
        pair = random.choice(list(re.finditer(r'"[a-z_]+":("[^"]*"|\d+|null)', text)))
        return random.choice([
            lambda: text[:at] + random.choice([" ", "\n", "\t", "\r\n", "\ufeff"]) + text[at:],
            lambda: json.dumps(value, ensure_ascii=False),
            lambda: text_of(value),
            lambda: json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n",
            lambda: json.dumps(value, separators=(",", ":")) + "\n",
            lambda: text[:number.start(1)] + whole + text[number.end(1):],
            lambda: text[:string.start(1) + place] + escaped + text[string.start(1) + place + 1:],
            lambda: text[:string.start(1)] + string[1].upper() + text[string.end(1):],
            lambda: text[:pair.end()] + "," + pair[0] + text[pair.end():],
            lambda: text.replace("/", "\\/"),
            lambda: "\ufeff" + text,
        ])().encode()

    def entry(self, data):
        """An entry of a list dropped, doubled, moved, or put in from another list."""
        random, value = self.random, json.loads(data)
        lists = [holder[key] for holder, key in places(value) if type(holder[key]) is list and holder[key]]
        chosen = random.choice(lists)
        at, other = random.randrange(len(chosen)), random.randrange(len(chosen))
        stranger = copy.deepcopy(random.choice(random.choice(lists)))
        random.choice([
            lambda: chosen.pop(at),
            lambda: chosen.insert(other, chosen[at]),
            lambda: chosen.insert(other, chosen.pop(at)),
            lambda: chosen.__setitem__(at, chosen[other]),
            lambda: chosen.insert(at, stranger),
            lambda: chosen.reverse(),
            lambda: chosen.clear(),
            lambda: chosen.__delitem__(slice(at, None)),
        ])()
        return written(value)

    def leaf(self, data):
        """A number, text or null that is another."""
        random, value = self.random, json.loads(data)
        simple = [(h, k) for h, k in places(value) if type(h[k]) not in (dict, list)]
        holder, key = random.choice(simple)
        holder[key] = self.other(holder[key], [h[k] for h, k in simple])
        return written(value)

    def other(self, old, all_of_file):
        random = self.random
        if type(old) is str and re.fullmatch("[0-9a-f]{128}", old) and random.random() < 0.3:
            r, s = int(old[:64], 16), int(old[64:], 16)
            pairs = [(r, ORDER - s), (r, 0), (0, s), (r, ORDER), (s, r), (r, ORDER - 1), ((ORDER - r) % ORDER, s)]
            return "%064x%064x" % random.choice(pairs)
        if type(old) is str and re.fullmatch("[0-9a-f]+", old) and random.random() < 0.6:
            at = random.randrange(len(old))
            digit = random.choice([random.choice("0123456789abcdef"), old[at].upper(), ""])
            return old[:at] + digit + old[at + 1:]
        if type(old) is str and re.fullmatch("-?[0-9]+", old) and random.random() < 0.7:
            number = int(old)
            return random.choice([str(number + 1), str(number - 1), str(-number), "0", "-0", old + "0", "0" + old, "+" + old, number,
                                  str(1 << 63), str(1 << 64), str(-(1 << 63)), str((1 << 63) - 1), "٣", old + " "])
        if type(old) is int and random.random() < 0.7:
            return random.choice([old + 1, old - 1, -old, 0, 1, 256, 1 << 32, (1 << 32) - 1, 1 << 70, float(old), str(old), old ^ 1])
        return random.choice([random.choice(all_of_file), None, "", True, False, 0, "0", 1.5, [], {}, "\ud800", "\u0000", "é"])

    def fields(self, data):
        """A field dropped, added, renamed, or in another place."""
        random, value = self.random, json.loads(data)
        holders = [value] + [h[k] for h, k in places(value) if type(h[k]) is dict]
        holder = random.choice(holders)
        items = list(holder.items())
        at, other = random.randrange(len(items)), random.randrange(len(items))
        (name, inner), (second, another) = items[at], items[other]
        random.choice([
            lambda: items.pop(at),
            lambda: items.insert(other, items.pop(at)),
            lambda: items.insert(at, ("more", inner)),
            lambda: items.__setitem__(at, (random.choice([second, name.upper(), name + " ", "text", "bytes"]), inner)),
            lambda: (items.__setitem__(at, (name, another)), items.__setitem__(other, (second, inner))),
        ])()
        holder.clear()
        holder.update(items)
        return written(value)

    def transplant(self, data):
        """A part of another file, or of another place, where one of that name was."""
        random, value = self.random, json.loads(data)
        holder, key = random.choice(list(places(value)))
        donor = json.loads(random.choice(self.files))
        parts = [h[k] for h, k in places(donor) if k == key and type(h[k]) is type(holder[key])]
        if parts:
            holder[key] = random.choice(parts)
        return written(value)


def units(character):
    encoded = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(encoded[at:at + 2], "big") for at in range(0, len(encoded), 2)]


def written(value):
    return (text_of(value) + "\n").encode("utf-8", "surrogatepass")
