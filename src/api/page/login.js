// Who is logged in, and the form for those who are not. Nothing else of the page begins before.

import { invited, offerAccount } from "./account.js";
import { act, ask } from "./stream.js";
import { say } from "./text.js";

const RETRY = 2000;

const find = (id) => document.getElementById(id);

/** Resolves when somebody may be shown the hub: at once where nobody logs in. */
export async function entered() {
  const user = await invited();
  if (user) {
    find("login").elements.user.value = user;
  }
  let session = null;
  while (!session) {
    session = await ask("/api/v1/session").catch(() => pause(RETRY));
  }
  if (!session.user) {
    return new Promise((resolve) => offer(session, resolve));
  }
  show(session);
}

function pause(time) {
  return new Promise((resolve) => setTimeout(() => resolve(null), time));
}

/** Shows the form again when the session has ended. */
export async function leftOut() {
  // A hub that does not answer at all is no reason to log in anew.
  const session = await ask("/api/v1/session").catch(() => null);
  if (session && !session.user) {
    location.reload();
  }
}

function show(session) {
  find("login").hidden = true;
  document.body.removeAttribute("data-out");
  find("who").hidden = !session.log_in;
  say(find("user"), session.user);
  find("user").title = session.roles.join(", ");
  if (session.log_in) {
    offerAccount();
  }
}

function offer(session, resolve) {
  const form = find("login");
  const problem = find("login-problem");
  const { user, password, code, send, certificate } = form.elements;
  let busy = false;
  form.hidden = false;
  certificate.hidden = !session.certificate;
  document.body.setAttribute("data-out", "");
  say(find("link"), "not logged in");
  (user.value ? password : user).focus();

  // Not disabled while something is under way: a button that is loses the keyboard's focus.
  function occupy(is) {
    busy = is;
    for (const button of [send, certificate]) {
      button.setAttribute("aria-disabled", String(is));
    }
  }

  function complain(text) {
    say(problem, text);
    problem.hidden = !text;
  }

  async function attempt(body) {
    if (busy) {
      return;
    }
    occupy(true);
    try {
      const entered = await act("/api/v1/login", body);
      form.reset();
      complain("");
      show(entered);
      resolve();
      find("devices").focus({ preventScroll: true });
    } catch (error) {
      code.value = "";
      password.select();
      complain(sentence(error.message));
      await countDown(error.wait ?? 0);
    } finally {
      occupy(false);
    }
  }

  /** Says when the next attempt is taken; it is read out once, and shown each second. */
  async function countDown(seconds) {
    const text = problem.textContent;
    for (let left = seconds; left > 0; left -= 1) {
      problem.setAttribute("aria-live", left === seconds ? "assertive" : "off");
      complain(`${text} Next attempt in ${left} s.`);
      await pause(1000);
    }
    problem.removeAttribute("aria-live");
    if (seconds > 0) {
      complain("You can try again now.");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const body = { user: user.value.trim(), password: password.value };
    if (code.value.trim()) {
      body.code = code.value.replaceAll(" ", "");
    }
    attempt(body);
  });
  certificate.addEventListener("click", () => {
    attempt(user.value.trim() ? { user: user.value.trim(), certificate: true } : { certificate: true });
  });
  password.addEventListener("keyup", (event) => {
    find("login-caps").hidden = !event.getModifierState("CapsLock");
  });
}

/** The hub's words as a sentence. */
function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

find("logout").addEventListener("click", async () => {
  await act("/api/v1/logout", {}).catch(() => {});
  location.reload();
});
