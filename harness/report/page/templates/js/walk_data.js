// What the page begins with, and how it asks the process that serves it.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);

// Lines that say what is wrong with a request.
class Mistakes extends Error {
  constructor(lines) {
    super(lines.join("\n"));
    this.lines = lines;
  }
}

const ask = async (name, request) => {
  let reply;
  try {
    reply = await fetch(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
  } catch {
    throw new Mistakes(["no answer: harness inspect has ended; start it again"]);
  }
  let answer;
  try {
    answer = await reply.json();
  } catch {
    throw new Mistakes([`no answer (status ${reply.status}); start harness inspect again`]);
  }
  if (!reply.ok) throw new Mistakes(answer.mistakes);
  return answer;
};

// Light and dark.
const systemDark = matchMedia("(prefers-color-scheme: dark)");
let theme = ""; // that of the system
const setTheme = (next) => {
  theme = next;
  document.documentElement.style.colorScheme = theme;
  const dark = theme ? theme === "dark" : systemDark.matches;
  byId("theme").textContent = dark ? "Light" : "Dark";
  return dark;
};

// The shades of probability as rules, which follow light and dark by themselves.
const shades = new CSSStyleSheet();
const { light, lightInk, dark, darkInk } = data.palette;
shades.replaceSync(light.map((paper, i) => `.chip-token[data-shade="${i}"]{background:light-dark(${paper},${dark[i]});color:light-dark(${lightInk[i]},${darkInk[i]})}`).join(""));
document.adoptedStyleSheets = [...document.adoptedStyleSheets, shades];
const shadeOf = (logprob) => Math.round(Math.min(1, -logprob / 7) * (light.length - 1));
