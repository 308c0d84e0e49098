import { progress } from "tq:task/runtime@0.1.0";

/** Greets a person by name, as wit/world.wit says. */
export function greet(name: string): { greeting: string } {
  const person = name.trim();
  if (person === "") {
    // The task's failure. What is thrown is the error's value; any other exception is a trap, and is tried again.
    throw "`name` is empty";
  }
  progress(0.5, `greeting ${person}`);
  console.log("greeting", person); // In the task's log.
  return { greeting: `Hello, ${person}!` };
}
