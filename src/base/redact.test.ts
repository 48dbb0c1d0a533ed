import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FORM_CHARS_MAX, REDACT_CHARS_MIN, REDACTED, Redactor } from './redact.ts'

const value = 'hunter2/cörrect+horse?&'
const redactor = new Redactor([value])
const base64 = (text: string) => Buffer.from(text).toString('base64')

describe('a secret value is taken out', () => {
  test.for<[form: string, text: string]>([
    ['plain', value],
    ['in JSON', JSON.stringify({ value }).slice(10, -2)],
    ['in JSON that is ASCII alone', value.replace('ö', '\\u00f6')],
    ['URL-encoded', encodeURIComponent(value)],
    ['URL-encoded in lower case', encodeURIComponent(value).toLowerCase()],
    ['in a path of a URL', encodeURIComponent(value).replaceAll('%2F', '/')],
    ['in a form', new URLSearchParams({ a: value }).toString().slice(2)],
    ['in hexadecimal', Buffer.from(value).toString('hex')],
    ['in upper hexadecimal', Buffer.from(value).toString('hex').toUpperCase()],
    ['in base64', base64(value)],
    ['in base64 for URLs', Buffer.from(value).toString('base64url')],
  ])('%s', ([, text]) => {
    expect(redactor.text(`a ${text} b`)).toBe(`a ${REDACTED} b`)
  })

  test.for([0, 1, 2, 3, 4])('out of base64 of more, %s bytes behind its beginning', (before) => {
    const text = base64(`${'x'.repeat(before)}${value}\n`)
    const out = redactor.text(text)
    expect(out).toContain(REDACTED)
    expect(Buffer.from(out.replace(REDACTED, ''), 'base64').toString()).not.toMatch(/hunter|orrect|horse/)
  })

  test('as base64 that a tool has broken into lines', () => {
    const long = 'k'.repeat(20) + value.repeat(6)
    const broken = base64(long).replaceAll(/.{76}/g, '$&\n')
    expect(new Redactor([long]).text(broken).replaceAll(REDACTED, '')).toMatch(/^\s*$/)
  })

  test('line by line when it has several, the frame of a PEM text left', () => {
    const pem =
      '-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END KEY-----\n'
    const out = new Redactor([pem]).text(
      pem
        .split('\n')
        .map((line) => `> ${line}`)
        .join('\n'),
    )
    expect(out).toBe(`> -----BEGIN KEY-----\n> ${REDACTED}\n> ${REDACTED}\n> -----END KEY-----\n> `)
  })

  test('without the newline at its end, with which files come', () => {
    expect(new Redactor([`${value}\n`]).text(`[${value}]`)).toBe(`[${REDACTED}]`)
  })

  test('together with another that overlaps it', () => {
    expect(new Redactor(['abcdef', 'defghi']).text('-abcdefghi-')).toBe(`-${REDACTED}-`)
  })

  test('out of the texts, names and numbers of JSON', () => {
    const both = new Redactor([value, '123456'])
    expect(both.json({ [value]: [`x${value}`, 123456, 7, null, true] })).toEqual({
      [REDACTED]: [`x${REDACTED}`, REDACTED, 7, null, true],
    })
  })
})

test('what is too short is not looked for', () => {
  const short = 'x'.repeat(REDACT_CHARS_MIN - 1)
  expect(new Redactor([short, '']).isIdle).toBe(true)
  expect(new Redactor([short]).text(short)).toBe(short)
})

/** A second opinion, by plain search: what some form covers is marked, everything else stays. */
function expected(text: string, values: string[]): string {
  const covered = new Uint8Array(text.length)
  for (const one of values)
    for (const form of [one, base64(one), encodeURIComponent(one), Buffer.from(one).toString('hex')])
      for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1)) covered.fill(1, at, at + form.length)
  let out = ''
  for (let i = 0; i < text.length; i++)
    if (!covered[i]) out += text.charAt(i)
    else if (i === 0 || !covered[i - 1]) out += REDACTED
  return out
}

// Of few letters, so that values overlap, repeat and begin alike; none of them is a letter of what stands between.
const someValue = fc.string({
  unit: fc.constantFrom('a', 'b', 'c', '/', 'ö'),
  minLength: REDACT_CHARS_MIN,
  maxLength: 12,
})
const between = fc.string({ unit: fc.constantFrom('.', ' ', '-', '\n', '!'), maxLength: 6 })
const someText = (values: string[]) =>
  fc
    .array(
      fc.tuple(
        between,
        fc.constantFrom(...values),
        fc.constantFrom<(text: string) => string>(
          (v) => v,
          base64,
          encodeURIComponent,
          (v) => Buffer.from(v).toString('hex'),
          (v) => v.slice(0, -1),
          (v) => v.slice(1),
        ),
      ),
      { maxLength: 12 },
    )
    .map((parts) => parts.map(([gap, v, form]) => gap + form(v)).join(''))

const someCase = fc
  .array(someValue, { minLength: 1, maxLength: 3 })
  .chain((values) => fc.tuple(fc.constant(values), someText(values), fc.array(fc.nat(), { maxLength: 8 })))

describe('for any values and any text', () => {
  test('no form of a value survives', () => {
    fc.assert(
      fc.property(someCase, ([values, text]) => {
        const out = new Redactor(values).text(text).replaceAll(REDACTED, '\u0000')
        for (const v of values)
          for (const form of [v, base64(v), encodeURIComponent(v), Buffer.from(v).toString('hex')])
            expect(out).not.toContain(form)
      }),
      { numRuns: 500 },
    )
  })

  test('nothing else is changed', () => {
    const noForms = fc.string({ unit: fc.constantFrom('.', ' ', '-', '\n', '!', 'é', '"'), maxLength: 200 })
    fc.assert(
      fc.property(fc.array(someValue, { maxLength: 3 }), noForms, (values, text) => {
        expect(new Redactor(values).text(text)).toBe(text)
      }),
    )
    const plain = fc.string({ unit: fc.constantFrom('x', 'y', 'z', 'w'), minLength: 4, maxLength: 8 })
    fc.assert(
      fc.property(plain, fc.array(fc.tuple(between, plain), { maxLength: 8 }), (v, parts) => {
        const text = parts.map(([gap, word]) => `${gap}#${word}`).join('')
        expect(new Redactor([v]).text(text)).toBe(expected(text, [v]))
      }),
      { numRuns: 500 },
    )
  })

  test('however the text is cut into pieces, the same is given out', () => {
    fc.assert(
      fc.property(someCase, ([values, text, cuts]) => {
        const redact = new Redactor(values)
        const stream = redact.stream()
        const places = [...new Set(cuts.map((cut) => (text.length === 0 ? 0 : cut % text.length)))].sort(
          (a, b) => a - b,
        )
        let out = ''
        let from = 0
        for (const place of [...places, text.length]) {
          out += stream.push(text.slice(from, place))
          from = place
        }
        expect(out + stream.end()).toBe(redact.text(text))
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('a stream', () => {
  test('holds nothing back that cannot become a secret', () => {
    const stream = redactor.stream()
    expect(stream.push('ready> ')).toBe('ready> ')
    expect(stream.push('hunt')).toBe('')
    expect(stream.push('ing\n')).toBe('hunting\n')
  })

  test('holds no more than the longest form, however long the value', () => {
    const long = 'ab'.repeat(100_000)
    const stream = new Redactor([long]).stream()
    let given = 0
    for (let at = 0; at < long.length; at += 1_000) {
      given += 1_000
      stream.push(long.slice(at, at + 1_000))
    }
    expect(given).toBe(long.length)
    expect(stream.end().length).toBeLessThanOrEqual(FORM_CHARS_MAX)
  })

  test('knows of what it holds that it belongs to a secret already', () => {
    const stream = new Redactor(['a/aba/c', 'cb-acbcb--']).stream()
    const out = stream.push('a/aba/cb-a') + stream.push('cb') + stream.push('cb-') + stream.end()
    expect(out).toBe(`${REDACTED}b-acbcb-`)
  })

  test('marks one secret once, also when it comes in many pieces', () => {
    const long = Array.from({ length: 3 * FORM_CHARS_MAX }, (_, i) => String.fromCharCode(97 + ((i * i) % 26))).join('')
    const stream = new Redactor([long]).stream()
    let out = ''
    for (let at = 0; at < long.length; at += 777) out += stream.push(long.slice(at, at + 777))
    expect(out + stream.push('!') + stream.end()).toBe(`${REDACTED}!`)
  })
})
