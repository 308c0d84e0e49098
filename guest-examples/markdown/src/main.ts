import MarkdownIt from "markdown-it";

type Page = {
  html: string;
  headings: { level: number; text: string }[];
  words: number;
};

const markdown = new MarkdownIt();

/** Turns Markdown into HTML, as wit/world.wit says. */
export function render(text: string): Page {
  if (text.trim() === "") {
    throw "there is no text to render";
  }
  const tokens = markdown.parse(text, {});
  const headings = tokens.flatMap(({ type, tag }, at) =>
    type === "heading_open" ? [{ level: Number(tag.slice(1)), text: tokens[at + 1].content }] : [],
  );
  const html = markdown.renderer.render(tokens, markdown.options, {});
  const words = html.replace(/<[^>]*>/g, " ").split(/\s+/).filter(Boolean).length;
  console.log(`${tokens.length} tokens, ${headings.length} headings`);
  return { html, headings, words };
}
