import { LIMITS } from '../limits.ts'

/** One requirement on the labels of a resource. */
export type LabelTerm = { op: 'in' | 'notin'; key: string; values: string[] } | { op: 'exists' | 'absent'; key: string }

export type ParsedSelector = { kind: 'parsed'; terms: LabelTerm[] } | { kind: 'wrong'; message: string }

const KEY = '[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?'
const VALUE = '[A-Za-z0-9._/:@+-]*'
const FORMS = {
  equals: new RegExp(`^(${KEY})\\s*(==|=|!=)\\s*(${VALUE})$`),
  set: new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^()]*)\\)$`),
  exists: new RegExp(`^(!?)\\s*(${KEY})$`),
  value: new RegExp(`^${VALUE}$`),
}

/** `tier=web,env in (dev, test),!legacy`: every term must hold. `!=` and `notin` hold too where the label is absent. */
export function parseSelector(text: string): ParsedSelector {
  if (text.length > LIMITS.selectorChars)
    return { kind: 'wrong', message: `is longer than ${LIMITS.selectorChars} characters` }
  const parts = splitTerms(text)
  if (parts.length > LIMITS.selectorTermsMax)
    return { kind: 'wrong', message: `has ${parts.length} terms; the limit is ${LIMITS.selectorTermsMax}` }
  const terms: LabelTerm[] = []
  for (const part of parts) {
    const term = parseTerm(part.trim())
    if (term === null)
      return {
        kind: 'wrong',
        message: `${JSON.stringify(part.trim().slice(0, 100))} is no requirement; write key=value, key!=value, key in (a, b), key notin (a, b), key or !key`,
      }
    terms.push(term)
  }
  return { kind: 'parsed', terms }
}

/** At commas that stand outside brackets. */
function splitTerms(text: string): string[] {
  const parts: string[] = []
  let depth = 0
  let part = ''
  for (const char of text) {
    if (char === '(') depth++
    if (char === ')') depth--
    if (char === ',' && depth <= 0) {
      parts.push(part)
      part = ''
    } else part += char
  }
  return [...parts, part]
}

function parseTerm(text: string): LabelTerm | null {
  const equals = FORMS.equals.exec(text)
  if (equals) {
    const [, key = '', op, value = ''] = equals
    return { op: op === '!=' ? 'notin' : 'in', key, values: [value] }
  }
  const set = FORMS.set.exec(text)
  if (set) {
    const [, key = '', op, list = ''] = set
    const values = list.split(',').map((value) => value.trim())
    return values.every((value) => FORMS.value.test(value)) ? { op: op === 'in' ? 'in' : 'notin', key, values } : null
  }
  const exists = FORMS.exists.exec(text)
  return exists ? { op: exists[1] === '!' ? 'absent' : 'exists', key: exists[2] ?? '' } : null
}

/** Whether labels meet every term. The store says the same in SQL. */
export const matchesTerms = (labels: Readonly<Record<string, string>>, terms: readonly LabelTerm[]): boolean =>
  terms.every((term) => {
    const value = Object.hasOwn(labels, term.key) ? labels[term.key] : undefined
    switch (term.op) {
      case 'exists':
        return value !== undefined
      case 'absent':
        return value === undefined
      case 'in':
        return value !== undefined && term.values.includes(value)
      case 'notin':
        return value === undefined || !term.values.includes(value)
    }
  })
