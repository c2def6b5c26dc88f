// What the scores mean, with the numbers of the model's own card.

import { card } from "./api.js";
import { percent } from "./faces.js";

const fine = (p) => `${(100 * p).toFixed(1)} %`;

function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

/** The confusion matrix as a table of shares; a row is the label people gave. */
function matrix(labels, counts) {
  const table = element("table");
  const head = element("tr", element("td"));
  for (const label of labels) {
    const cell = element("th", label);
    cell.scope = "col";
    head.append(cell);
  }
  const number = element("th", "faces");
  number.scope = "col";
  head.append(number);
  table.append(element("thead", head));
  const body = element("tbody");
  counts.forEach((row, k) => {
    const total = row.reduce((a, b) => a + b, 0);
    const name = element("th", labels[k]);
    name.scope = "row";
    const cells = row.map((count, j) => {
      const cell = element("td", percent(total ? count / total : 0));
      cell.style.setProperty("--share", total ? count / total : 0);
      cell.className = `share${j === k ? " is-right" : ""}`;
      return cell;
    });
    const sum = element("td", String(total));
    sum.className = "sum";
    body.append(element("tr", name, ...cells, sum));
  });
  table.append(body);
  return table;
}

/** Write the card's view; gives whether the server had one to tell. */
export async function startScores() {
  const place = document.getElementById("scores");
  let model;
  try {
    [model] = (await card()).models;
  } catch (error) {
    place.textContent = `${error.message} ${error.hint ?? ""}`;
    return false;
  }
  document.getElementById("model").textContent = `Model ${model.name}`;
  const paragraphs = [
    element("p", element("strong", "An expression is not an emotion."), " The labels say what strangers saw in a picture. They do not say what a person felt, and mien cannot know it."),
    element("p", element("strong", "A percentage is the model's confidence, calibrated: "), "of many answers given with 80 %, about 80 % should be right. The seven percentages of a face sum to 100."),
    element("p", element("strong", `Below ${percent(model.threshold)} an answer is called uncertain. `), "Then it is better to take no answer than this one. A face that is blurred or overexposed needs more."),
  ];
  const [split, views] = Object.entries(model.scores)[0] ?? [];
  const view = { mirror: "with mirror", ten: "ten views" }[model.views] ?? "single view";
  const score = views?.[`${view}, all`];
  if (!score) {
    place.replaceChildren(...paragraphs, element("p", "This model's card has no measured scores, so nobody can say how often it is right."));
    return true;
  }
  const figure = element("p", element("strong", fine(score.accuracy)), " right");
  figure.className = "figure";
  const [low, high] = score.interval;
  const [clean, near] = ["without twins", "without near twins"].map((rows) => views[`${view}, ${rows}`]);
  const wrapper = element("div", matrix(model.labels, score.confusion));
  wrapper.className = "scroll";
  wrapper.tabIndex = 0;
  wrapper.setAttribute("role", "region");
  wrapper.setAttribute("aria-label", "Confusion matrix");
  const caption = element("p", "Of the faces that people gave the label at the left, how many the model gave the label at the top:");
  caption.className = "fine";
  place.replaceChildren(
    ...paragraphs,
    element("h2", `How often ${model.name} is right`),
    figure,
    element("p", `of ${score.n.toLocaleString("en")} faces${["PublicTest", "PrivateTest"].includes(split) ? ` of FER2013's ${split} split` : ""} (95 % interval ${fine(low)} to ${fine(high)}; macro-F1 ${score.macro_f1.toFixed(2)}; confidence off by ${fine(score.ece)} on average).`
      + (clean ? ` ${score.n - clean.n} of them stand among the faces it learned from too, pixel for pixel; without these it is right in ${fine(clean.accuracy)}.` : "")
      + (near ? ` ${(clean ?? score).n - near.n} more stand there in another version, cropped or lit otherwise; on the ${near.n.toLocaleString("en")} that do not it is right in ${fine(near.accuracy)}, which is nearer to what you can expect.` : "")
      + (split !== "PrivateTest" ? " These faces also chose the training's length, settings and calibration, so expect somewhat less on yours." : "")
      + " People agree with these labels about two times in three."),
    element("h2", "What it confuses"),
    caption,
    wrapper,
    element("h2", "What it is not for"),
    element("p", "Not for decisions about people: hiring, policing, schooling, health, insurance, lie detection. The faces it learned from were found by searching the web for emotion words: posed, public, unevenly spread over ages, sexes and skin tones, so its errors are unequal in ways that nobody has measured. Ask people before you read their faces."),
  );
  return true;
}
