import { z } from 'zod'

/** The address of something that is called over HTTP, without user and password. `credentials`: where those go instead. */
export const httpAddress = ({ example, credentials }: { example: string; credentials: string }) =>
  z
    .string()
    .max(2_048, { error: 'is longer than 2048 characters' })
    .refine((text) => /^https?:$/.test(URL.parse(text)?.protocol ?? ''), {
      error: `must be an address such as ${example}`,
    })
    .refine((text) => (URL.parse(text)?.username ?? '') === '' && (URL.parse(text)?.password ?? '') === '', {
      error: `must have no user and no password in it: ${credentials}`,
    })

/** One that paths are put behind: no query and no fragment either. */
export const addressOfHttp = httpAddress({
  example: 'https://models.example/v1',
  credentials: 'name a secret with credentials',
}).refine((text) => (URL.parse(text)?.search ?? '') === '' && (URL.parse(text)?.hash ?? '') === '', {
  error: 'must have no query and no fragment',
})
