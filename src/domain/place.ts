/** A place inside a document: keys and indexes from the root. */
export type Path = readonly (string | number)[]

/** `spec.steps[2].needs[0]`; keys that would be read wrongly are quoted: `env["A.B"]`. */
export function formatPath(path: Path): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else if (/^[A-Za-z_$][\w$-]*$/.test(part)) text += text === '' ? part : `.${part}`
    else text += `[${JSON.stringify(part.length > 64 ? `${part.slice(0, 64)}…` : part)}]`
  }
  return text
}
