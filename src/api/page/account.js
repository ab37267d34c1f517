// What people do with their own credentials: take an invitation, choose another password, set up one-time codes.

import { act } from "./stream.js";
import { element, say, shape } from "./text.js";

const LINK = "#invitation=";

const find = (id) => document.getElementById(id);

/** Resolves when no invitation is left to be taken: at once where the address has none. */
export async function invited() {
  if (!location.hash.startsWith(LINK)) {
    return null;
  }
  const invitation = decodeURIComponent(location.hash.slice(LINK.length));
  // Out of the address and the history: it is worth a password.
  history.replaceState(null, "", location.pathname);
  const form = find("invited");
  const { password, again, code, send } = form.elements;
  form.hidden = false;
  document.body.setAttribute("data-out", "");
  let welcome = null;
  try {
    welcome = await act("/api/v1/invitation", { invitation });
  } catch (error) {
    complain(form, error.message);
    send.hidden = true;
    return new Promise(() => {});
  }
  form.elements.user.value = welcome.user;
  find("invited-codes").hidden = !welcome.codes;
  code.required = Boolean(welcome.codes);
  if (welcome.codes) {
    draw(find("invited-qr"), welcome.codes);
  }
  password.focus();
  await submitted(form, async () => {
    if (password.value !== again.value) {
      throw new Error("the two passwords are not the same");
    }
    const body = { invitation, password: password.value };
    if (welcome.codes) {
      body.code = code.value.replaceAll(" ", "");
    }
    await act("/api/v1/invitation", body);
  });
  form.hidden = true;
  find("invited-qr").replaceChildren();
  return welcome.user;
}

/** The form's own work, again and again until it is done. */
function submitted(form, work) {
  return new Promise((resolve) => {
    let busy = false;
    async function submit(event) {
      event.preventDefault();
      if (busy) {
        return;
      }
      busy = true;
      complain(form, "");
      try {
        await work();
        form.removeEventListener("submit", submit);
        form.reset();
        resolve();
      } catch (error) {
        complain(form, error.message);
      } finally {
        busy = false;
      }
    }
    form.addEventListener("submit", submit);
  });
}

function complain(form, text) {
  const problem = form.querySelector(".problem");
  say(problem, text && `${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
  problem.hidden = !text;
}

/** The QR code and the letters of a secret. Its picture is drawn anew from the numbers in it. */
function draw(place, codes) {
  const parsed = new DOMParser().parseFromString(codes.qr ?? "", "image/svg+xml");
  const read = (node) => Object.fromEntries([...node.attributes].map((a) => [a.name, a.value]));
  const parts = [...parsed.querySelectorAll("svg > rect, svg > path")];
  const drawn = parts.map((part) => {
    const { d, width, height, fill, stroke } = read(part);
    const thickness = part.getAttribute("stroke-width");
    return shape(part.localName, { d, width, height, fill, stroke, "stroke-width": thickness });
  });
  const viewBox = parsed.documentElement.getAttribute("viewBox");
  const picture = shape("svg", { viewBox, class: "qr", role: "img", "aria-label": "QR code" }, ...drawn);
  const letters = element("code", {}, codes.secret.replaceAll(/(.{4})/g, "$1 ").trim());
  place.replaceChildren(picture, element("p", {}, "Scan it with an authenticator app, or type ", letters, "."));
}

/** The form for those who are logged in. */
export function offerAccount() {
  const dialog = find("account");
  const [password, codes] = [find("account-password"), find("account-codes")];

  find("account-open").addEventListener("click", () => dialog.showModal());
  find("account-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    find("account-qr").replaceChildren();
    find("account-confirm").hidden = true;
    for (const form of [password, codes]) {
      form.reset();
      complain(form, "");
    }
  });

  const proof = ({ old, code }) => ({
    password: old.value,
    ...(code.value.trim() && { code: code.value.replaceAll(" ", "") }),
  });

  async function passwords() {
    await submitted(password, async () => {
      const { chosen, again } = password.elements;
      if (chosen.value !== again.value) {
        throw new Error("the two passwords are not the same");
      }
      await act("/api/v1/own/password", { ...proof(password.elements), new: chosen.value });
    });
    say(find("account-done"), "You have a new password. Your other sessions here are over.");
    passwords();
  }

  async function apps() {
    const confirm = find("account-confirm");
    await submitted(codes, async () => {
      if (!confirm.hidden) {
        const first = codes.elements.first.value.replaceAll(" ", "");
        await act("/api/v1/own/codes", { confirm: first });
        return;
      }
      draw(find("account-qr"), await act("/api/v1/own/codes", proof(codes.elements)));
      confirm.hidden = false;
      codes.elements.first.focus();
      throw new Error("");
    });
    confirm.hidden = true;
    find("account-qr").replaceChildren();
    say(find("account-done"), "You are asked for a code from now on.");
    apps();
  }

  passwords();
  apps();
}
