// The API's description, /openapi.json, for people.

const COMMANDS = {
  "/v1/read": (base) => [
    `curl --data-binary @photo.jpg ${base}/v1/read`,
    `curl -F image=@one.jpg -F image=@two.jpg ${base}/v1/read`,
  ],
  "/v1/faces": (base) => [`curl -F image=@face-1.png -F image=@face-2.png ${base}/v1/faces`],
};

function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.append(text ?? "");
  made.className = className;
  return made;
}

/** Text with **bold** and `code`, as the description has it. */
function inline(text) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`)/).map((part) => {
    if (part.startsWith("**")) return element("strong", part.slice(2, -2));
    if (part.startsWith("`")) return element("code", part.slice(1, -1));
    return part;
  });
}

const paragraph = (text, className = "") => {
  const made = element("p", "", className);
  made.append(...inline(text));
  return made;
};

/** The examples of a schema with what each is of, followed through references and alternatives. */
function examples(schema, schemas) {
  if (!schema) return [];
  if (schema.$ref) return examples(schemas[schema.$ref.split("/").at(-1)], schemas);
  if (schema.anyOf) return schema.anyOf.flatMap((one) => examples(one, schemas));
  return (schema.examples ?? []).map((example) => [schema.description, example]);
}

function operation(method, path, described, schemas) {
  const box = element("article", "", "operation");
  const title = element("h3", "");
  title.append(element("span", method.toUpperCase(), "method"), element("code", path), element("span", described.summary));
  box.append(title);
  if (described.description) box.append(paragraph(described.description));
  const types = Object.keys(described.requestBody?.content ?? {});
  if (types.length) box.append(paragraph(`${described.requestBody.description} Content types: ${types.map((type) => `\`${type}\``).join(", ")}.`));
  for (const parameter of described.parameters ?? []) {
    box.append(paragraph(`\`?${parameter.name}=\` ${parameter.description ?? ""}`));
  }
  const commands = COMMANDS[path]?.(location.origin) ?? (method === "get" ? [`curl ${location.origin}${path}`] : []);
  if (commands.length) box.append(element("pre", commands.join("\n")));
  const bodies = [
    ...examples(described.requestBody?.content["application/json"]?.schema, schemas).map(([of, one]) => [`JSON in: ${of}`, one]),
    ...examples(described.responses["200"]?.content?.["application/json"]?.schema, schemas).map(([of, one]) => [`Answer: ${of}`, one]),
  ];
  for (const [name, example] of bodies) {
    const details = element("details", "");
    const summary = element("summary", "");
    summary.append(...inline(name));
    details.append(summary, element("pre", JSON.stringify(example, null, 2)));
    box.append(details);
  }
  const statuses = element("dl", "", "answers");
  for (const [status, answer] of Object.entries(described.responses)) {
    statuses.append(element("dt", status), element("dd", answer.description));
  }
  const details = element("details", "");
  details.append(element("summary", "Status codes"), statuses);
  box.append(details);
  return box;
}

const description = await (await fetch("/openapi.json")).json();
const { schemas } = description.components;
document.getElementById("title").textContent = `The API of ${description.info.title} ${description.info.version}`;
document.getElementById("about").append(...description.info.description.trim().split(/\n\s*\n/).map((text) => paragraph(text)));
const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, described]) => operation(method, path, described, schemas)));
const error = element("article", "", "operation");
error.append(element("h3", "Every error"), element("pre", JSON.stringify(examples({ $ref: "ErrorOut" }, schemas)[0][1], null, 2)));
document.getElementById("operations").replaceChildren(...operations, error);
