// New sheets as they are published. After a cut the browser comes back by itself and asks for what it missed.
"use strict";

const feed = document.getElementById("feed");
const line = document.getElementById("line");
const KEEP = 40;
let last = Number(feed.dataset.last);
let attempts = 0;

function element(name, text, attributes = {}) {
  const node = document.createElement(name);
  node.textContent = text || "";
  Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  return node;
}

function show(sheet) {
  if (sheet.number <= last) return;
  last = sheet.number;
  const item = element("li", "", { "data-number": sheet.number, class: "new" });
  const link = element("a", "", { href: sheet.url });
  link.append(
    sheet.photo
      ? element("img", "", { src: sheet.photo, alt: sheet.photo_alt, width: 96, height: 96 })
      : element("span", "", { class: "no-photo" }),
  );
  const about = element("span");
  about.append(element("strong", sheet.plant));
  if (sheet.scientific_name) about.append(" ", element("i", sheet.scientific_name, { lang: "la" }));
  about.append(element("br"), sheet.place, element("br"));
  about.append(element("small", `№ ${sheet.number}, seen by ${sheet.observer}`));
  link.append(about);
  item.append(link);
  feed.prepend(item);
  while (feed.children.length > KEEP) feed.lastElementChild.remove();
}

function say(text, state) {
  line.textContent = text;
  line.dataset.state = state;
}

function connect() {
  const url = new URL("/ws/live/", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("after", last);
  const socket = new WebSocket(url);
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "welcome") {
      attempts = 0;
      say(message.member ? `Connected as ${message.member}` : "Connected", "on");
    } else if (message.type === "sighting") {
      show(message);
    }
  };
  socket.onclose = (event) => {
    say("Reconnecting…", "off");
    // A server that ends says 1012 (Daphne 4012) to everybody at once: come back within seconds, each browser at its own moment.
    // Soon after a hiccup, then slower and slower.
    const restart = event.code === 1012 || event.code === 4012;
    const pause = restart ? 1000 + 4000 * Math.random() : Math.min(30000, 500 * 2 ** attempts) * (0.5 + Math.random());
    attempts += 1;
    setTimeout(connect, pause);
  };
}

connect();
