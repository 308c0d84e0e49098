import { progress } from "tq:task/runtime@0.1.0";
import { task } from "./task.ts";

/** Greets a person by name, as wit/world.wit says. */
export const greet = task((name: string): { greeting: string } => {
  const person = name.trim();
  if (person === "") {
    throw "`name` is empty"; // The task's failure. An `Error` would be tried again.
  }
  progress(0.5, `greeting ${person}`);
  console.log("greeting", person); // In the task's log.
  return { greeting: `Hello, ${person}!` };
});
