import type { Redactor } from '../base/index.ts'

/** A text without secrets; JSON stays JSON. */
export function redactOutput(text: string, redactor: Redactor): string {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return redactor.text(text)
  }
  const before = JSON.stringify(value)
  const after = JSON.stringify(redactor.json(value))
  return before === after ? text : after
}
