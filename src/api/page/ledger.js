// The newest blocks, and the batches that were refused.

import { count, element, moment, reasonText, shortHash } from "./text.js";

const BLOCKS = 12;
const REFUSALS = 20;

export class Ledger {
  constructor() {
    this.blocks = [];
    this.refusals = [];
  }

  picture(blocks, refusals) {
    this.blocks = blocks.slice(0, BLOCKS);
    this.refusals = refusals.slice(0, REFUSALS);
    this.showBlocks();
    this.showRefusals();
  }

  addBlocks(blocks) {
    const newest = this.blocks[0]?.height ?? 0;
    const fresh = blocks.filter((block) => block.height > newest);
    this.blocks = [...fresh, ...this.blocks].slice(0, BLOCKS);
    this.showBlocks();
  }

  addRefusals(refusals) {
    const key = (one) => `${one.device} ${one.sequence} ${one.time_ns}`;
    const known = new Set(this.refusals.map(key));
    const fresh = refusals.filter((one) => !known.has(key(one)));
    this.refusals = [...fresh, ...this.refusals].slice(0, REFUSALS);
    this.showRefusals();
  }

  showBlocks() {
    document.getElementById("no-blocks").hidden = this.blocks.length > 0;
    document.getElementById("blocks").replaceChildren(...this.blocks.map((block) => element("tr", {},
      element("td", { class: "number" }, element("a", { href: `/api/v1/blocks/${block.height}` }, count(block.height))),
      element("td", {}, moment(block.time)),
      element("td", { class: "number" }, count(block.record_count)),
      element("td", { class: "hash", title: block.hash }, shortHash(block.hash)),
    )));
  }

  showRefusals() {
    document.getElementById("no-refusals").hidden = this.refusals.length > 0;
    document.getElementById("refusals").replaceChildren(...this.refusals.map((one) => element("li", {},
      element("p", { class: "head" }, element("b", {}, `✕ ${one.device}`), ` batch ${count(one.sequence)} `, moment(one.time)),
      element("p", { title: one.reason }, reasonText(one.reason)),
    )));
  }
}
