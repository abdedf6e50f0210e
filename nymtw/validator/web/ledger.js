// The page of one node of the ledger: asks its HTTP interface, shows text only.

const ROWS = 50;
const PAGES = 10; // of bonds, a hundred on each
const UNIT = 10n ** 18n;
const byId = (name) => document.getElementById(name);

async function ask(path) {
  const answer = await fetch(path);
  const shown = await answer.json();
  if (!answer.ok) throw new Error(shown.error);
  return shown;
}

function tokens(text) {
  const amount = BigInt(text);
  const part = (amount % UNIT).toString().padStart(18, "0").replace(/0+$/, "");
  return part ? `${amount / UNIT}.${part}` : `${amount / UNIT}`;
}

function fill(table, rows) {
  byId(table).tBodies[0].replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    for (const [text, name] of cells) {
      const cell = row.insertCell();
      cell.textContent = text;
      if (name) cell.className = name;
    }
    return row;
  }));
}

function showSupply(totals) {
  const { conserved, ...places } = totals ?? { conserved: true };
  fill("totals", Object.entries(places).map(([place, amount]) => [[place], [tokens(amount), "number"]]));
  const text = byId("conserved");
  text.className = conserved ? "" : "wrong";
  text.textContent = conserved
    ? "Nothing was created and nothing lost: what accounts, bonds and withdrawals hold is what was notarised less what was released."
    : "What is held is not what was notarised less what was released.";
}

function showBlocks(blocks) {
  const rows = blocks.toReversed().flatMap((block) => block.transactions.toReversed().map((each) => [
    [block.height, "number"],
    [each.kind ?? "not readable"],
    [each.sender ?? ""],
    [each.code ? `refused (${each.code}): ${each.text}` : "done", each.code ? "wrong" : ""],
  ]));
  fill("transactions", rows.slice(0, ROWS));
  const times = blocks.map((block) => block.time / 1e9);
  const gaps = times.slice(1).map((time, place) => time - times[place]).sort((one, other) => one - other);
  byId("pace").textContent = gaps.length ? `${gaps[gaps.length >> 1].toFixed(1)} s, median of the last ${gaps.length}` : "–";
}

async function showBonds() {
  const bonds = [];
  let after = "";
  for (let page = 0; page < PAGES; page += 1) {
    const { bonds: more } = await ask(`/bonds?count=100${after}`);
    bonds.push(...more);
    if (more.length < 100) break;
    after = `&after=${more.at(-1).address}`;
  }
  fill("bonds", bonds.map((each) => [
    [each.address],
    [each.identity],
    [tokens(each.amount), "number"],
    [tokens(each.leaving), "number"],
  ]));
  byId("bonds").hidden = !bonds.length;
  byId("nobody").textContent = bonds.length ? `${bonds.length} accounts stand for a node.` : "Nobody is bonded.";
}

async function show() {
  const status = await ask("/status");
  byId("chain").textContent = status.chain;
  byId("height").textContent = status.height;
  byId("time").textContent = status.time ? new Date(status.time / 1e6).toLocaleString() : "none yet";
  byId("driver").textContent = status.driver;
  byId("waiting").textContent = `${status.waiting} transactions`;
  byId("root").textContent = status.root;
  showSupply((await ask("/query?path=totals")).record);
  showBlocks((await ask(`/blocks?after=${Math.max(0, status.height - 20)}&count=20`)).blocks);
  await showBonds();
  const parameters = (await ask("/query?path=parameters")).record;
  fill("validators", parameters.validators.map((each) => [[each.address], [each.power, "number"]]));
  return status.height;
}

async function follow() {
  let height = 0;
  for (;;) {
    try {
      height = await show();
      byId("trouble").hidden = true;
      await ask(`/blocks?after=${height}&count=1&wait=25`);
    } catch (error) {
      byId("trouble").textContent = `The node does not answer: ${error.message}`;
      byId("trouble").hidden = false;
      await new Promise((go) => setTimeout(go, 2000));
    }
  }
}

follow();
