// Greets a person: the payload is standard input, the result standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

type person struct {
	Name string `json:"name"`
}

type greeting struct {
	Greeting string `json:"greeting"`
}

func main() {
	if err := run(); err != nil {
		// The task's log, and the reason of its failure.
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var p person
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return fmt.Errorf("payload is not the expected JSON: %w", err)
	}
	if p.Name == "" {
		return fmt.Errorf("field `name` is empty")
	}
	return json.NewEncoder(os.Stdout).Encode(greeting{"Hello, " + p.Name + "!"})
}
