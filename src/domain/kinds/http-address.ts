import { z } from 'zod'

/** The address of something that is called over HTTP: no user, no password, no query and no fragment. */
export const addressOfHttp = z
  .string()
  .max(2_048, { error: 'is longer than 2048 characters' })
  .refine((text) => /^https?:$/.test(URL.parse(text)?.protocol ?? ''), {
    error: 'must be an address such as https://models.example/v1',
  })
  .refine((text) => (URL.parse(text)?.username ?? '') === '' && (URL.parse(text)?.password ?? '') === '', {
    error: 'must have no user and no password in it: name a secret with credentials',
  })
  .refine((text) => (URL.parse(text)?.search ?? '') === '' && (URL.parse(text)?.hash ?? '') === '', {
    error: 'must have no query and no fragment',
  })
