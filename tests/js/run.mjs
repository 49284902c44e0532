// Makes the calls that standard input lists as JSON with the @huggingface/inference of a folder, and prints what came
// of each: {"value": ...}, or {"error": message}. A call is {method, args, options, file: {field, path}, stream}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const library = createRequire(`${process.argv[2]}/`)("@huggingface/inference");

async function make({ method, args, options, file, stream }) {
  if (file) args[file.field] = new Blob([readFileSync(file.path)]);
  try {
    if (!stream) return { value: await library[method](args, options) };
    const items = [];
    for await (const item of library[method](args, options)) items.push(item);
    return { value: items };
  } catch (error) {
    return { error: `${error.name}: ${error.message}${error.cause ? ` (${error.cause})` : ""}` };
  }
}

const outcomes = [];
for (const call of JSON.parse(readFileSync(0, "utf8"))) outcomes.push(await make(call));
console.log(JSON.stringify(outcomes));
