// Fills the template that is its argument with the JSON on standard input.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/template"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("one argument is needed: the template")
	}
	// A name that is not there is an error rather than `<no value>`.
	tmpl, err := template.New("template").Option("missingkey=error").Parse(arguments[0])
	if err != nil {
		return err
	}
	var data any
	if err := json.NewDecoder(os.Stdin).Decode(&data); err != nil {
		return fmt.Errorf("payload is no JSON: %w", err)
	}
	return tmpl.Execute(os.Stdout, data)
}
